"""What every measurement says of itself, and words that several kinds of them use; see records.measurement."""

from __future__ import annotations

from dataclasses import dataclass

from records.words import FailureSource, Medium, TsSource

__all__ = ["FailureSource", "Measurement", "TsSource"]


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
