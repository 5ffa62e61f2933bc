"""Throughput probe: achieved rate of a bulk TCP transfer, by iperf3 or by the built-in test.

`wire`, `config` and `iperf3_json` are pure; `bulk` and `server` hold the sockets, `iperf3` runs the tool.
"""

from probes.throughput.config import ThroughputConfig
from probes.throughput.probe import ThroughputProbe
from probes.throughput.server import ThroughputServer

__all__ = ["ThroughputConfig", "ThroughputProbe", "ThroughputServer"]
