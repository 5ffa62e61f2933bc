"""The hops of a path, as frozen records; see records.measurement."""

from __future__ import annotations

from dataclasses import dataclass

from records.words import TsSource

__all__ = ["Hop", "MplsLabel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MplsLabel:
    """One entry of an MPLS label stack in an ICMP extension (RFC 4950)."""

    label: int
    traffic_class: int
    bottom: bool
    ttl: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One TTL of a path. A silent hop is present with no address; it is never removed.

    ttl          hop number, from 1
    address      who answered; None when nobody did
    rtt_ns       of the probe packet that was answered; None exactly when nobody answered
    probes, replies   how many probe packets carried this TTL and how many were answered; a difference is the
                 router's reluctance to answer and is never the path's loss
    icmp_type, icmp_code, reply_ttl   of the answer
    mpls         label stack quoted by the router, outermost first
    """

    ttl: int
    address: str | None
    rtt_ns: int | None
    probes: int = 1
    replies: int = 0
    ts_source: TsSource | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    reply_ttl: int | None = None
    mpls: tuple[MplsLabel, ...] = ()

    def __post_init__(self) -> None:
        if (self.address is None) != (self.rtt_ns is None):
            raise ValueError("a hop with an address has an RTT and a silent hop has neither")
