"""dublin-traceroute's JSON: one path for every flow, each a port of its own. Pure.

Source: https://github.com/insomniacslk/dublin-traceroute (its JSON output)
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from records.measurement import MplsLabel
from records.units import SECOND
from warehouse.importers.found import Found, Given, Reply, Unfit, hop, normal, read, rtt_ns, traceroute, when_ns

__all__ = ["document"]


class _SentIp(msgspec.Struct):
    src: str
    dst: str
    ttl: int


class _Sent(msgspec.Struct):
    ip: _SentIp
    timestamp: str | float


class _Icmp(msgspec.Struct):
    type: int | None = None
    code: int | None = None
    mpls_labels: list[dict[str, Any]] = []


class _ReceivedIp(msgspec.Struct):
    src: str
    ttl: int | None = None


class _Received(msgspec.Struct):
    ip: _ReceivedIp
    icmp: _Icmp = msgspec.field(default_factory=_Icmp)


class _Packet(msgspec.Struct):
    sent: _Sent
    received: _Received | None = None
    rtt_usec: int | None = None


class _Document(msgspec.Struct):
    flows: dict[str, list[dict[str, Any]]]


def document(value: object, given: Given) -> Iterator[Found | Unfit]:
    """The paths of one run; raises Unfit."""
    flows = read(value, _Document).flows
    if not flows:
        raise Unfit("no_hops", "there is no flow in it")
    for index, (_, packets) in enumerate(sorted(flows.items())):
        try:
            yield _found(index, [read(packet, _Packet) for packet in packets])
        except Unfit as fault:
            yield fault


def _found(flow: int, packets: list[_Packet]) -> Found:
    if not packets:
        raise Unfit("no_hops", f"flow {flow} tried no TTL")
    sent = packets[0].sent.ip
    replies: dict[int, list[Reply]] = {}
    for packet in packets:
        some = replies.setdefault(packet.sent.ip.ttl, [])
        if packet.received is not None and packet.rtt_usec is not None:
            icmp = packet.received.icmp
            reply = Reply(
                address=normal(packet.received.ip.src),
                rtt_ns=rtt_ns(packet.rtt_usec / 1000, may_be_zero=True),
                icmp_type=icmp.type,
                icmp_code=icmp.code,
                reply_ttl=packet.received.ip.ttl,
                mpls=_labels(icmp.mpls_labels),
            )
            some.append(reply)
    at_ns = min(_time(packet.sent.timestamp) for packet in packets)
    counts = {ttl: sum(packet.sent.ip.ttl == ttl for packet in packets) for ttl in replies}
    target = normal(sent.dst)
    hops = [hop(ttl, counts[ttl], some) for ttl, some in replies.items()]
    # It goes on to its last TTL; the target answers at every one beyond it.
    end = next((one.ttl for one in sorted(hops, key=lambda one: one.ttl) if one.address == target), 255)
    record = traceroute(target, at_ns, "dublin-traceroute", [one for one in hops if one.ttl <= end], protocol="udp", flow=flow)
    return Found(record=record, src=(normal(sent.src),), dst=(target,))


def _time(stamp: str | float) -> int:
    try:
        ns = Decimal(str(stamp)) * SECOND
        return when_ns(0, int(ns))
    except (InvalidOperation, ValueError, OverflowError) as error:
        if isinstance(error, Unfit):
            raise
        raise Unfit("bad_time", f"timestamp {stamp!r} is no Unix time") from error


def _labels(entries: list[dict[str, Any]]) -> tuple[MplsLabel, ...]:
    try:
        return tuple(
            MplsLabel(
                label=int(entry["label"]),
                traffic_class=int(entry.get("experimental", 0)),
                bottom=bool(entry.get("bottom_of_stack", 0)),
                ttl=int(entry["ttl"]),
            )
            for entry in entries
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Unfit("bad_field", f"an MPLS label that is none: {error}") from error
