"""What every measurement says of itself, and words that several kinds of them use; see records.measurement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from records.link import Medium

__all__ = ["FailureSource", "Measurement", "TsSource"]

#: How an RTT was timed: kernel stamps on both ends, on receive only, by the application's clock, or by the
#: kernel's TCP stack. Only the first two are free of the scheduler's delays.
TsSource = Literal["kernel_txrx", "kernel_rx", "user", "tcp_info"]

#: Whose failure it was, as far as one end can tell: the name service, the network between, the other end, this host.
FailureSource = Literal["resolver", "path", "target", "agent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What every measurement says of itself.

    id          unique for ever: the agent's boot id and a counter, ``<boot>-<n>``
    agent       the daemon that measured
    src, dst    site ids: the agent's site and the target's
    medium      what the two sites are joined by (internet, backbone, direct-connect)
    target      the address or URL measured, as configured (never with credentials)
    started_at_ns   Unix time, UTC, ns; says when, never used for an RTT
    engine      name and version of what measured, such as ``isochrone-icmp/1``
    """

    id: str
    agent: str
    src: str
    dst: str
    medium: Medium
    target: str
    started_at_ns: int
    engine: str
