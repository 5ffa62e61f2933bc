"""Results of perfSONAR's pScheduler: rtt, trace and throughput, bare or as its archivers get them. Pure.

Bare results name no hosts and no time (--src, --dst, --at). In an archiver's document the test says source and dest, the
schedule when. Latencies (``latency``, ``latencybg``) go one way and are no round-trip times.
Source: https://docs.perfsonar.net/pscheduler_ref_tests_tools.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec

from records.measurement import ThroughputResult
from records.units import MS, SECOND
from warehouse.importers.found import (
    Found,
    Given,
    Reply,
    Unfit,
    head,
    hop,
    iso_ns,
    normal,
    ping,
    read,
    rtt_ns,
    sample,
    span_ns,
    traceroute,
)

__all__ = ["document"]

_Amount = Annotated[float, msgspec.Meta(ge=0, lt=float(1 << 62))]


class _Spec(msgspec.Struct):
    source: str | None = None
    dest: str | None = None


class _TestOf(msgspec.Struct):
    type: str | None = None
    spec: _Spec = msgspec.field(default_factory=_Spec)


class _Schedule(msgspec.Struct):
    start: str | None = None


class _Tool(msgspec.Struct):
    name: str = ""
    version: str = ""


class _Archived(msgspec.Struct):
    result: dict[str, Any]
    test: _TestOf = msgspec.field(default_factory=_TestOf)
    schedule: _Schedule = msgspec.field(default_factory=_Schedule)
    tool: _Tool | str = msgspec.field(default_factory=_Tool)


class _Roundtrip(msgspec.Struct):
    seq: int
    rtt: str | None = None
    ttl: int | None = None
    ip: str | None = None
    length: int | None = None


class _Rtt(msgspec.Struct):
    roundtrips: list[_Roundtrip]
    lost: int | None = None


class _Hop(msgspec.Struct):
    ip: str | None = None
    hostname: str | None = None
    rtt: str | None = None


class _Trace(msgspec.Struct):
    paths: list[list[_Hop]]


class _Sum(msgspec.Struct, rename="kebab"):
    throughput_bits: _Amount
    throughput_bytes: _Amount | None = None
    start: _Amount = 0
    end: _Amount = 0
    retransmits: int | None = None


class _Summary(msgspec.Struct):
    summary: _Sum


class _Throughput(msgspec.Struct):
    summary: _Summary


def document(value: object, given: Given) -> Iterator[Found | Unfit]:
    """The measurements of one result; raises Unfit."""
    archived = read(value if isinstance(value, Mapping) and isinstance(value.get("result"), Mapping) else {"result": value}, _Archived)
    result = archived.result
    if result.get("succeeded") is False:
        raise Unfit("measurement_failed", f"perfSONAR says: {result.get('error') or 'the test did not succeed'}")
    at_ns = given.at_ns if archived.schedule.start is None else iso_ns(archived.schedule.start)
    name, version = (archived.tool, "") if isinstance(archived.tool, str) else (archived.tool.name, archived.tool.version)
    engine = "perfsonar" + (f"/{name}" if name else "") + (f" {version}" if version else "")
    ends = _Ends(archived.test.spec, at_ns, engine, name, given)
    if "roundtrips" in result:
        yield ends.rtt(read(result, _Rtt))
    elif "paths" in result:
        yield from ends.trace(read(result, _Trace))
    elif "histogram-latency" in result or archived.test.type in ("latency", "latencybg"):
        raise Unfit("one_way", "one-way delays: rtt, trace and throughput are read")
    elif isinstance(result.get("summary"), Mapping):
        yield ends.throughput(read(result, _Throughput))
    else:
        raise Unfit("not_this_format", "this is no result of an rtt, trace or throughput test")


class _Ends:
    """What one document says of all its measurements."""

    def __init__(self, spec: _Spec, at_ns: int | None, engine: str, tool: str, given: Given) -> None:
        self._spec, self._at_ns, self._engine, self._tool, self._given = spec, at_ns, engine, tool, given
        self._src = (spec.source,) if spec.source else ()

    def _dst(self, *found: str | None) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for name in (*found, self._spec.dest, self._given.target) if name))

    def rtt(self, result: _Rtt) -> Found:
        rounds = {one.seq: one for one in result.roundtrips}
        if len(rounds) != len(result.roundtrips):
            raise Unfit("bad_field", "a sequence number occurs twice")
        answered = {seq: one for seq, one in rounds.items() if one.rtt is not None}
        first = min(rounds, default=1)
        count = max(max(rounds, default=0) - first + 1, len(answered) + (result.lost or 0)) if rounds or result.lost else 0
        if count > 1 << 16:
            raise Unfit("out_of_range", f"sequence numbers from {first} to {max(rounds)}")
        at_ns = self._at_ns or 0
        samples = []
        for seq in range(first, first + count):
            one = answered.get(seq)
            rtt = None if one is None or one.rtt is None else rtt_ns(span_ns(one.rtt) / MS)
            samples.append(sample(seq - first, at_ns, rtt, **({"reply_ttl": one.ttl} if one is not None else {})))
        addresses = {one.ip for one in answered.values() if one.ip is not None}
        if len(addresses) > 1:
            raise Unfit("wrong_source", f"answers of {', '.join(sorted(addresses))}: a reply of another host is none")
        dst = self._dst(*addresses)
        return Found(record=ping(dst[0] if dst else "", self._at_ns, self._engine, samples), src=self._src, dst=dst)

    def trace(self, result: _Trace) -> Iterator[Found | Unfit]:
        dst = self._dst()
        for flow, path in enumerate(result.paths):
            try:
                hops = []
                for ttl, one in enumerate(path, 1):
                    rtt = None if one.rtt is None else rtt_ns(span_ns(one.rtt) / MS, may_be_zero=True)
                    replies = [] if one.ip is None else [Reply(address=normal(one.ip), rtt_ns=rtt)]
                    hops.append(hop(ttl, 1, replies))
                protocol = self._given.protocol or "udp"
                record = traceroute(dst[0] if dst else "", self._at_ns, self._engine, hops, protocol=protocol, flow=flow)
                yield Found(record=record, src=self._src, dst=dst)
            except Unfit as fault:
                yield fault

    def throughput(self, result: _Throughput) -> Found:
        total = result.summary.summary
        if not total.throughput_bits or total.throughput_bytes == 0:
            raise Unfit("no_bytes", "not one byte was counted")
        dst = self._dst()
        span = total.end - total.start
        record = ThroughputResult(
            **head(dst[0] if dst else "", self._at_ns, self._engine),
            tool="iperf3" if self._tool == "iperf3" else "other",
            direction="up",
            transferred_bytes=None if total.throughput_bytes is None else round(total.throughput_bytes),
            duration_ns=round(span * SECOND) if span > 0 else None,
            throughput_bps=round(total.throughput_bits),
            stop_reason="time",
            retransmits=total.retransmits,
        )
        return Found(record=record, src=self._src, dst=dst)
