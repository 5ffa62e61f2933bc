"""Traceroute, Paris style: one flow, all TTLs in flight, kernel timestamps.

``wire`` and ``tcp_wire`` are bytes to values; ``strategy`` the rules of one trace, with time as an argument; ``transports``
and ``tcp`` the only I/O, besides ``evidence``, which keeps the packets in a file; ``engine`` runs many traces on the event
loop; ``probe`` is the probe type.
"""

from probes.traceroute.engine import TracerouteEngine
from probes.traceroute.probe import TracerouteConfig, TracerouteProbe

__all__ = ["TracerouteConfig", "TracerouteEngine", "TracerouteProbe"]
