"""What a parser gives: measurements that name their two ends as the file does, and what cannot be one, with its reason. Pure.

A parser takes text or decoded documents and returns values; it opens nothing and knows no clock, no site and no database.
`warehouse.importers.files` reads the files, finds the sites, and stores.

===================  ==========================================================================================
reason               the measurement, or the file
===================  ==========================================================================================
empty                holds nothing
not_text, not_json   is not what the format is written in
cut_off              ends before its end
not_this_format      is something else; also a document of another type or version
other_type           is of another kind than those that are read
missing_value        lacks its rate
bad_field            lacks a field, or one has the wrong type or contradicts another
too_long             has a line of more than 16 MiB
no_time              does not say when it was made: --at TIME or --at mtime says it
bad_time             has a time that is none, or lies before 1990
from_the_future      has a time more than a day ahead
no_source, no_target names no host at that end: --src or --dst says it
unknown_site         is between hosts of which one is at no known site
same_site            is from a site to itself
bad_number, negative, out_of_range, zero_rtt   has a time that cannot be one
no_samples, no_hops  tried nothing
wrong_source         counts replies of another host than the one asked
summary_only         has no single packets, only their mean
no_rtt               says that a host answered, not after how long
one_way              has one-way delays, which are no round-trip times
not_tcp, no_bytes    is a transfer that says nothing of a TCP path's throughput
measurement_failed   could not be made; its tool says why
===================  ==========================================================================================
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from records.measurement import Hop, MplsLabel, PingResult, PingSample, ThroughputResult, TracerouteResult, path_hash
from records.units import MS, SECOND

__all__ = [
    "LEFT_OUT",
    "Found",
    "Given",
    "Protocol",
    "Record",
    "Reply",
    "Unfit",
    "head",
    "hop",
    "iso_ns",
    "normal",
    "ping",
    "read",
    "rtt_ns",
    "sample",
    "span_ns",
    "traceroute",
    "when_ns",
]

Record = PingResult | TracerouteResult | ThroughputResult
Protocol = Literal["icmp", "udp", "tcp"]

_MAX_RTT_MS = 600_000.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_NS = 631_152_000 * SECOND  # 1990-01-01: a probe whose clock was never set says 1970
_ISO_SPAN = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?")


@dataclass(frozen=True, slots=True)
class Given:
    """What the user says beside the file, for measurements that do not say it themselves.

    at_ns     when it was made, Unix time, ns
    protocol  of a traceroute; None: what its tool sends unless told otherwise
    target    address that was measured
    mapping   of a matrix: our column -> the file's, where they differ
    where     of a matrix: the file's column -> the value a row must have to be read
    """

    at_ns: int | None = None
    protocol: Protocol | None = None
    target: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One measurement of a file. Its id, agent, src and dst are empty: they are given when its sites are known.

    src, dst  names of the two ends, the most telling first: address, host name, ``probe:6025``; empty: the file says none
    place     line, or number of the document, that it begins at, from 1
    """

    record: Record
    src: tuple[str, ...]
    dst: tuple[str, ...]
    place: int = 1


#: The reason of what the user asked to leave out: counted, and no fault.
LEFT_OUT = "left_out"


class Unfit(ValueError):
    """A measurement that cannot be stored; `place` as in Found, where it is not that of the whole document."""

    def __init__(self, reason: str, detail: str, place: int | None = None) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.place = reason, detail, place


def read(document: object, kind: type[Any]) -> Any:
    """The document as a `kind` of record (msgspec); raises Unfit that says which field does not hold."""
    try:
        return msgspec.convert(document, kind, strict=False)
    except (msgspec.ValidationError, RecursionError) as error:
        raise Unfit("bad_field", str(error)) from error


def rtt_ns(milliseconds: float, *, may_be_zero: bool = False) -> int:
    """A round-trip time in ns; raises Unfit when it cannot be one. Zero is how some tools write "no answer"."""
    if not math.isfinite(milliseconds):
        raise Unfit("bad_number", f"RTT {milliseconds} is not a number")
    if milliseconds < 0:
        raise Unfit("negative", f"RTT {milliseconds:g} ms is below zero")
    if milliseconds > _MAX_RTT_MS:
        raise Unfit("out_of_range", f"RTT {milliseconds:g} ms is above {_MAX_RTT_MS:g}")
    if milliseconds == 0 and not may_be_zero:
        raise Unfit("zero_rtt", "an RTT of 0: no round trip takes no time")
    return round(milliseconds * MS)


def when_ns(seconds: int, nanoseconds: int = 0) -> int:
    """Unix time in ns of a measurement; raises Unfit when it cannot be one."""
    at_ns = seconds * SECOND + nanoseconds
    if not _EARLIEST_NS <= at_ns < 1 << 62:
        raise Unfit("bad_time", f"Unix time {seconds} is no time of a measurement")
    return at_ns


def iso_ns(text: str) -> int:
    """Unix time in ns of an ISO 8601 time, UTC where it has no offset, exact to its microsecond; raises Unfit."""
    try:
        at = datetime.fromisoformat(text)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Unfit("bad_time", f"{text!r} is no ISO 8601 time") from error
    return when_ns(0, (at - _EPOCH) // timedelta(microseconds=1) * 1000)


def span_ns(text: str) -> int:
    """ns of an ISO 8601 duration of hours, minutes and seconds, such as ``PT0.0538S``; raises Unfit."""
    match = _ISO_SPAN.fullmatch(text)
    if match is None or text == "PT":
        raise Unfit("bad_number", f"{text!r} is no ISO 8601 duration, as in PT0.0538S")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return round(((hours * 60 + minutes) * 60 + seconds) * SECOND)


def normal(name: str) -> str:
    """An address in its one short form, IPv4 out of IPv6 where mapped; any other name in lower case without its last dot."""
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return name.strip().lower().removesuffix(".")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def sample(sequence: int, sent_at_ns: int, rtt: int | None, **other: Any) -> PingSample:
    """A probe packet of another tool: a reply where there is an RTT, else a time-out unless `other` says what it was."""
    if rtt is None:
        return PingSample(**{"sequence": sequence, "sent_at_ns": sent_at_ns, "outcome": "timeout", **other})
    return PingSample(sequence=sequence, sent_at_ns=sent_at_ns, outcome="reply", rtt_ns=rtt, ts_source="user", **other)


def head(target: str, at_ns: int | None, engine: str) -> dict[str, Any]:
    """What every measurement says of itself, its id, agent and sites empty; raises Unfit where nothing says when it was made."""
    if at_ns is None:
        raise Unfit("no_time", "nothing says when it was made; give --at TIME, or --at mtime for the time of the file")
    return {
        **dict.fromkeys(("id", "agent", "src", "dst"), ""),
        "medium": "internet",
        "target": target,
        "started_at_ns": at_ns,
        "engine": engine,
    }


def ping(
    target: str,
    at_ns: int | None,
    engine: str,
    samples: Sequence[PingSample],
    *,
    method: Protocol = "icmp",
    payload_bytes: int | None = None,
) -> PingResult:
    """A round of probe packets; raises Unfit where there are none or nothing says when."""
    common = head(target, at_ns, engine)
    if not samples:
        raise Unfit("no_samples", "not one probe packet was sent")
    return PingResult(**common, method=method, timeout_ns=None, payload_bytes=payload_bytes, samples=tuple(samples))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answered probe packet of a traceroute; rtt_ns None: it came, after a time nobody says."""

    address: str
    rtt_ns: int | None
    icmp_type: int | None = None
    icmp_code: int | None = None
    reply_ttl: int | None = None
    mpls: tuple[MplsLabel, ...] = ()


def hop(ttl: int, probes: int, replies: Sequence[Reply]) -> Hop:
    """One TTL: the address that answered most of its probe packets, the first of several, with the least RTT of its replies."""
    timed = [reply for reply in replies if reply.rtt_ns is not None]
    if not timed:
        return Hop(ttl=ttl, address=None, rtt_ns=None, probes=max(probes, 1))
    address = Counter(reply.address for reply in timed).most_common(1)[0][0]
    best = min((reply for reply in timed if reply.address == address), key=lambda reply: reply.rtt_ns or 0)
    return Hop(
        ttl=ttl,
        address=address,
        rtt_ns=best.rtt_ns,
        probes=max(probes, len(replies)),
        replies=len(replies),
        ts_source="user",
        icmp_type=best.icmp_type,
        icmp_code=best.icmp_code,
        reply_ttl=best.reply_ttl,
        mpls=best.mpls,
    )


def traceroute(
    target: str,
    at_ns: int | None,
    engine: str,
    hops: Sequence[Hop],
    *,
    protocol: Protocol,
    flow: int = 0,
    reached: bool | None = None,
) -> TracerouteResult:
    """A path; TTLs between the first and the last of which nothing is said are silent hops.

    reached  None: it is, when the target's address is one of the hops'. Raises Unfit where there is no hop or nothing says when.
    """
    common = head(target, at_ns, engine)
    by_ttl = {one.ttl: one for one in hops}
    if not by_ttl:
        raise Unfit("no_hops", "not one TTL was tried")
    if not 1 <= min(by_ttl) <= max(by_ttl) <= 255:
        raise Unfit("out_of_range", f"TTLs from {min(by_ttl)} to {max(by_ttl)}; they go from 1 to 255")
    full = tuple(by_ttl.get(ttl) or Hop(ttl=ttl, address=None, rtt_ns=None, probes=1) for ttl in range(min(by_ttl), max(by_ttl) + 1))
    if reached is None:
        reached = any(one.address is not None and normal(one.address) == normal(target) for one in full)
    return TracerouteResult(
        **common, protocol=protocol, flow=flow, hops=full, reached=reached, path_hash=path_hash(one.address for one in full)
    )
