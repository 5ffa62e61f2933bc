"""Traceroute, Paris style: one flow, all TTLs in flight, kernel timestamps.

``wire`` is bytes to values; ``strategy`` the rules of one trace, with time as an argument; ``transports`` the only
I/O; ``engine`` runs many traces on the event loop; ``probe`` is the probe type.
"""

from probes.traceroute.engine import TracerouteEngine
from probes.traceroute.probe import TracerouteConfig, TracerouteProbe

__all__ = ["TracerouteConfig", "TracerouteEngine", "TracerouteProbe"]
