"""Ping: round-trip times to hundreds of targets at once, timed by the kernel.

``wire``, ``udp_wire``, ``ancillary`` and ``filters`` are bytes to values; ``timing``, ``pace`` and ``session`` are the
state machine, with time as an argument; ``sockets`` is the only I/O; ``icmp``, ``udp`` and ``portable`` are the engines;
``probe`` is the probe type.
"""

from probes.ping.engine import PingEngine
from probes.ping.icmp import IcmpEngine
from probes.ping.portable import IcmplibEngine
from probes.ping.probe import PingConfig, PingProbe, open_best
from probes.ping.udp import UdpEchoEngine, UdpEchoReflector

__all__ = ["IcmpEngine", "IcmplibEngine", "PingConfig", "PingEngine", "PingProbe", "UdpEchoEngine", "UdpEchoReflector", "open_best"]
