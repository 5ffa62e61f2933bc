"""trippy's report, ``trip HOST --mode json``: the path, with how often each hop answered. Pure.

Reports of 0.13 and later say when they began; older ones do not (--at). trippy sends ICMP unless told otherwise (--protocol).
Of several hosts at one TTL, which one answered how often is not said: the first is kept.
Source: https://trippy.rs/reference/ and the report's types in its source
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

from records.measurement import Hop, MplsLabel
from warehouse.importers.found import Found, Given, Reply, Unfit, hop, iso_ns, normal, read, rtt_ns, traceroute

__all__ = ["document"]

_Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class _Host(msgspec.Struct):
    ip: str
    hostname: str = ""


class _Member(msgspec.Struct):
    label: int
    ttl: int
    exp: int = 0
    bos: int = 0


class _Stack(msgspec.Struct):
    members: list[_Member] = []


class _Extension(msgspec.Struct):
    mpls: _Stack | None = None


class _Hop(msgspec.Struct):
    ttl: int
    sent: _Count
    recv: _Count
    best: float
    hosts: list[_Host] = []
    extensions: list[_Extension] = []


class _Info(msgspec.Struct):
    target: _Host
    start_timestamp: str | None = None


class _Report(msgspec.Struct):
    info: _Info
    hops: list[dict[str, Any]]


def document(value: object, given: Given) -> Iterator[Found]:
    """The path of one report; raises Unfit."""
    report = read(value, _Report)
    hops = [_hop(read(entry, _Hop)) for entry in report.hops]
    target = normal(report.info.target.ip)
    at_ns = given.at_ns if report.info.start_timestamp is None else iso_ns(report.info.start_timestamp)
    record = traceroute(target, at_ns, "trippy", hops, protocol=given.protocol or "icmp")
    names = (target, report.info.target.hostname)
    yield Found(record=record, src=(), dst=tuple(dict.fromkeys(name for name in names if name)))


def _hop(one: _Hop) -> Hop:
    if not one.hosts or not one.recv:
        return hop(one.ttl, one.sent, [])
    if one.recv > one.sent:
        raise Unfit("bad_field", f"TTL {one.ttl}: {one.recv} replies to {one.sent} packets")
    labels = tuple(
        MplsLabel(label=member.label, traffic_class=member.exp, bottom=bool(member.bos), ttl=member.ttl)
        for extension in one.extensions
        if extension.mpls is not None
        for member in extension.mpls.members
    )
    reply = Reply(address=normal(one.hosts[0].ip), rtt_ns=rtt_ns(one.best, may_be_zero=True), mpls=labels)
    return hop(one.ttl, one.sent, [reply] * one.recv)
