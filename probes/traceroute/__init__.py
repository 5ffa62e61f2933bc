"""Traceroute, Paris style: one flow, all TTLs in flight, kernel timestamps.

``wire`` and ``tcp_wire`` are bytes to values; ``strategy`` the rules of one trace, with time as an argument; ``transports``
and ``tcp`` the only I/O, besides ``evidence``, which keeps the packets in a file; ``engine`` runs many traces on the event
loop; ``probe`` is the probe type.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probes.traceroute.engine import TracerouteEngine
    from probes.traceroute.probe import TracerouteConfig, TracerouteProbe

__all__ = ["TracerouteConfig", "TracerouteEngine", "TracerouteProbe"]

#: Loaded when asked for: the engine alone starts in half the time.
_MODULES = {"TracerouteConfig": "probe", "TracerouteEngine": "engine", "TracerouteProbe": "probe"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
