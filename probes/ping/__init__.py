"""Ping: round-trip times to hundreds of targets at once, timed by the kernel.

``wire``, ``udp_wire``, ``ancillary`` and ``filters`` are bytes to values; ``session`` is the state machine, with time as an
argument, on ``timing``, ``pace``, ``packet``, ``departed`` and ``rounds``. ``sockets`` is the only I/O, by ``mmsg`` and ``outbox``
many packets at a time, with the kernel's ``stamps`` and ``drops``; ``opening`` makes the sockets. ``icmp``, ``udp`` and
``portable`` are the engines; ``probe`` is the probe type.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probes.ping.engine import PingEngine
    from probes.ping.icmp import IcmpEngine
    from probes.ping.portable import IcmplibEngine
    from probes.ping.probe import PingConfig, PingProbe, open_best
    from probes.ping.udp import UdpEchoEngine, UdpEchoReflector

__all__ = ["IcmpEngine", "IcmplibEngine", "PingConfig", "PingEngine", "PingProbe", "UdpEchoEngine", "UdpEchoReflector", "open_best"]

#: Loaded when asked for: who runs one engine has only that in memory.
_MODULES = {
    "IcmpEngine": "icmp",
    "IcmplibEngine": "portable",
    "PingConfig": "probe",
    "PingEngine": "engine",
    "PingProbe": "probe",
    "UdpEchoEngine": "udp",
    "UdpEchoReflector": "udp",
    "open_best": "probe",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
