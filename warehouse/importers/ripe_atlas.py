"""Results of RIPE Atlas, ping and traceroute, as its API and its archives give them: JSON lines or one array. Pure.

Firmware of every age (fields came and went; old ones write numbers as text). A probe is called ``probe:6025``; its
addresses are names of it too. A result that says only that it could not be made is not stored. What firmware before 4460
kept of a ping is a mean of no packets.
Source: https://atlas.ripe.net/docs/apis/result-format/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from records.measurement import Hop, MplsLabel, PingSample
from warehouse.importers.found import Found, Given, Protocol, Reply, Unfit, hop, normal, ping, read, rtt_ns, sample, traceroute, when_ns

__all__ = ["document"]

_PROTOCOLS: dict[str, Protocol] = {"ICMP": "icmp", "UDP": "udp", "TCP": "tcp"}
#: ICMP type and code of the `err` of a traceroute's packet, for IPv4 and IPv6.
_ERRORS = {
    4: {"N": (3, 0), "H": (3, 1), "P": (3, 2), "p": (3, 3), "A": (3, 13)},
    6: {"N": (1, 0), "H": (1, 3), "A": (1, 1), "p": (1, 4), "P": (4, 1)},
}


class _Result(msgspec.Struct):
    type: str
    prb_id: int
    timestamp: int
    fw: int = 0
    msm_id: int | None = None
    af: int = 4
    proto: str | None = None
    src_addr: str | None = None
    from_: str | None = msgspec.field(name="from", default=None)
    dst_addr: str | None = None
    addr: str | None = None
    dst_name: str | None = None
    name: str | None = None
    size: int | None = None
    sent: int | None = None
    ttl: int | None = None
    step: int | None = None
    result: list[dict[str, Any]] | None = None


class _Packet(msgspec.Struct):
    rtt: float | None = None
    ttl: int | None = None
    dup: int | bool | str = 0
    late: int | None = None
    error: str | None = None
    x: str | None = None
    from_: str | None = msgspec.field(name="from", default=None)
    err: str | int | None = None
    icmpext: Any = None


class _Hop(msgspec.Struct):
    hop: int
    result: list[_Packet] = []
    error: str | None = None


def document(value: object, given: Given) -> Iterator[Found]:
    """The measurement of one result; raises Unfit."""
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind not in ("ping", "traceroute"):
        raise Unfit("not_this_format", f"a result of type {kind!r}; ping and traceroute are read")
    result = read(value, _Result)
    at_ns = when_ns(result.timestamp)
    engine = f"ripe-atlas/{result.fw} probe {result.prb_id}" + (f" measurement {result.msm_id}" if result.msm_id is not None else "")
    dst = tuple(dict.fromkeys(text for text in (result.dst_addr, result.addr, result.dst_name, result.name) if text))
    src = tuple(dict.fromkeys(text for text in (f"probe:{result.prb_id}", result.from_, result.src_addr) if text))
    target = dst[0] if dst else ""
    if kind == "ping":
        record: Any = ping(target, at_ns, engine, _samples(result, at_ns), method=_protocol(result, "icmp"), payload_bytes=result.size)
    else:
        hops = _hops(result)
        reached = any(one.address is not None and normal(one.address) == normal(target) for one in hops)
        # 255 stands for the last packets, sent with all the TTL there is: which hop answers them is not known.
        known = [one for one in hops if one.ttl < 255]
        record = traceroute(target, at_ns, engine, known, protocol=_protocol(result, "udp"), reached=reached)
    yield Found(record=record, src=src, dst=dst)


def _protocol(result: _Result, usual: Protocol) -> Protocol:
    if result.proto is None:
        return usual
    if result.proto.upper() not in _PROTOCOLS:
        raise Unfit("bad_field", f"proto {result.proto!r} is not one of {', '.join(_PROTOCOLS)}")
    return _PROTOCOLS[result.proto.upper()]


def _samples(result: _Result, at_ns: int) -> list[PingSample]:
    if result.result is None:
        raise Unfit("summary_only", "firmware before 4460 kept only the mean of its packets")
    packets = [read(packet, _Packet) for packet in result.result]
    errors = [packet.error for packet in packets if packet.error is not None]
    if errors and len(errors) == len(packets):
        raise Unfit("measurement_failed", f"the probe says: {errors[0]}")
    samples: list[PingSample] = []
    for packet in packets:
        if packet.dup:
            # A further copy of a reply, of the packet before it. One that came after the time-out makes that packet no reply.
            if samples:
                samples[-1] = replace(samples[-1], duplicates=samples[-1].duplicates + 1)
            continue
        rtt = None if packet.rtt is None else rtt_ns(packet.rtt)
        # Atlas sends its packets one second apart and does not say when each one left.
        samples.append(sample(len(samples), at_ns, rtt, **({"reply_ttl": packet.ttl or result.ttl} if rtt is not None else {})))
    return samples


def _hops(result: _Result) -> list[Hop]:
    hops = []
    for entry in result.result or []:
        if "hop" not in entry:
            raise Unfit("measurement_failed", f"the probe says: {entry.get('error', 'nothing of any hop')}")
        one = read(entry, _Hop)
        if one.error is not None and not one.result:
            raise Unfit("measurement_failed", f"the probe says: {one.error}")
        replies = [
            Reply(
                address=packet.from_,
                rtt_ns=rtt_ns(packet.rtt, may_be_zero=True),
                reply_ttl=packet.ttl,
                mpls=_labels(packet.icmpext),
                **_icmp(result, packet),
            )
            for packet in one.result
            # A late packet answers an earlier TTL's; its RTT is not known.
            if packet.from_ is not None and packet.rtt is not None and packet.late is None
        ]
        hops.append(hop(one.hop, sum(packet.late is None for packet in one.result), replies))
    return hops


def _icmp(result: _Result, packet: _Packet) -> dict[str, int]:
    if packet.err is None:
        return {}
    kind, code = _ERRORS.get(result.af, {}).get(str(packet.err), (None, None))
    return {} if kind is None or code is None else {"icmp_type": kind, "icmp_code": code}


def _labels(extension: Any) -> tuple[MplsLabel, ...]:
    """The label stack (RFC 4950: class 1, type 1) of an ICMP extension."""
    objects = extension.get("obj", []) if isinstance(extension, Mapping) else []
    return tuple(
        MplsLabel(label=int(entry["label"]), traffic_class=int(entry.get("exp", 0)), bottom=bool(entry.get("s", 0)), ttl=int(entry["ttl"]))
        for one in objects
        if isinstance(one, Mapping) and (one.get("class"), one.get("type")) == (1, 1)
        for entry in one.get("mpls", [])
        if isinstance(entry, Mapping) and "label" in entry and "ttl" in entry
    )
