"""The agent: ping, traceroute, throughput and inference probes; schedule; spool; uplink.

Installs without DuckDB, Streamlit or NumPy. One scheduler owns time; a probe type only knows "once".
"""
