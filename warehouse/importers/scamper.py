"""scamper's JSON lines (``sc_warts2json``, M-Lab's traceroute-caller): trace, tracelb and ping. Pure.

A tracelb sends many flows along every branch; each flow that was tried at every TTL is a path of its own. Of its first hop
scamper tells who answered and not after how long, so that such a path begins at TTL 2. A file of which a line is broken is
stored not at all: what the lines around it belong to cannot be told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from records.measurement import Hop, MplsLabel
from warehouse.importers.found import Found, Given, Protocol, Reply, Unfit, hop, normal, ping, read, rtt_ns, sample, traceroute, when_ns

__all__ = ["document"]

_FRAME = ("cycle-start", "cycle-stop")
#: What else scamper measures, and this does not read.
_OTHER = ("dealias", "neighbourdisc", "tbit", "sting", "sniff", "host", "http", "udpprobe", "owamp")
_MAX_TTL = 255


class _Start(msgspec.Struct):
    sec: int
    usec: int = 0


class _Run(msgspec.Struct):
    src: str
    dst: str
    start: _Start
    method: str = "icmp-echo"
    version: str = "0"


class _Ext(msgspec.Struct):
    ie_cn: int = 0
    ie_ct: int = 0
    mpls_labels: list[dict[str, int]] = []


class _TraceHop(msgspec.Struct):
    addr: str
    probe_ttl: int
    rtt: float
    reply_ttl: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    icmpext: list[_Ext] = []


class _Trace(_Run):
    hops: list[_TraceHop] = []
    hop_count: int = 0
    firsthop: int = 1
    attempts: int = 1


class _LbReply(msgspec.Struct):
    rtt: float
    ttl: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None


class _LbProbe(msgspec.Struct):
    ttl: int
    flowid: int
    replies: list[_LbReply] = []


class _LbHop(msgspec.Struct):
    addr: str
    probes: list[_LbProbe] = []


class _LbNode(msgspec.Struct):
    addr: str
    linkc: int = 0
    links: list[list[_LbHop]] = []


class _TraceLb(_Run):
    nodes: list[_LbNode] = []


class _Response(msgspec.Struct):
    seq: int
    rtt: float
    reply_ttl: int | None = None
    from_: str | None = msgspec.field(name="from", default=None)


class _Ping(_Run):
    responses: list[_Response] = []
    ping_sent: int = 0
    ping_size: int | None = None


def document(value: object, given: Given) -> Iterator[Found | Unfit]:
    """The measurements of one line; raises Unfit."""
    if not isinstance(value, Mapping):
        raise Unfit("not_this_format", "the line is no object")
    if "type" not in value:
        # traceroute-caller's first line; without its id the file cannot be told from others.
        if not value.get("UUID") or not isinstance(value["UUID"], str):
            raise Unfit("not_this_format", "the line has neither a type nor the UUID of traceroute-caller's")
        return
    kind = value["type"]
    if kind in _FRAME:
        return
    if kind == "trace":
        yield from _trace(read(value, _Trace))
    elif kind == "tracelb":
        yield from _tracelb(read(value, _TraceLb))
    elif kind == "ping":
        yield from _ping(read(value, _Ping))
    elif kind in _OTHER:
        yield Unfit("other_type", f"a measurement of type {kind!r}; trace, tracelb and ping are read")
    else:
        raise Unfit("not_this_format", f"type {kind!r} is none of scamper's")


def _common(run: _Run) -> tuple[str, int, str, Protocol]:
    protocol: Protocol = "udp" if run.method.startswith("udp") else "tcp" if run.method.startswith("tcp") else "icmp"
    return normal(run.dst), when_ns(run.start.sec, run.start.usec * 1000), f"scamper/{run.version} {run.method}", protocol


def _is_host(text: str) -> bool:
    return text not in ("", "*")


def _trace(run: _Trace) -> Iterator[Found]:
    target, at_ns, engine, protocol = _common(run)
    by_ttl: dict[int, list[Reply]] = {}
    last = max([run.hop_count, *(one.probe_ttl for one in run.hops)])
    if not run.hops and not run.hop_count:
        raise Unfit("no_hops", "not one TTL was tried")
    if not 1 <= run.firsthop <= last <= _MAX_TTL:
        raise Unfit("out_of_range", f"TTLs from {run.firsthop} to {last}; they go from 1 to {_MAX_TTL}")
    for one in run.hops:
        replies = by_ttl.setdefault(one.probe_ttl, [])
        if _is_host(one.addr):
            reply = Reply(
                address=normal(one.addr),
                rtt_ns=rtt_ns(one.rtt, may_be_zero=True),
                icmp_type=one.icmp_type,
                icmp_code=one.icmp_code,
                reply_ttl=one.reply_ttl,
                mpls=_labels(one.icmpext),
            )
            replies.append(reply)
    hops = [
        # A TTL that nobody answered was tried as often as scamper tries.
        hop(ttl, len(by_ttl[ttl]) or 1, by_ttl[ttl])
        if by_ttl.get(ttl)
        else Hop(ttl=ttl, address=None, rtt_ns=None, probes=max(run.attempts, 1))
        for ttl in range(run.firsthop, last + 1)
    ]
    yield Found(record=traceroute(target, at_ns, engine, hops, protocol=protocol), src=(normal(run.src),), dst=(target,))


def _labels(extensions: list[_Ext]) -> tuple[MplsLabel, ...]:
    try:
        return tuple(
            MplsLabel(
                label=entry["mpls_label"],
                traffic_class=entry.get("mpls_exp", 0),
                bottom=bool(entry.get("mpls_s", 0)),
                ttl=entry["mpls_ttl"],
            )
            for one in extensions
            if (one.ie_cn, one.ie_ct) == (1, 1)
            for entry in one.mpls_labels
        )
    except KeyError as error:
        raise Unfit("bad_field", f"an MPLS label without {error}") from error


def _tracelb(run: _TraceLb) -> Iterator[Found]:
    target, at_ns, engine, protocol = _common(run)
    flows: dict[int, dict[int, list[Reply]]] = {}
    for node in run.nodes:
        if node.linkc and not node.links:
            raise Unfit("bad_field", f"the node {node.addr} counts {node.linkc} links and has none")
        for link in node.links:
            for one in link:
                for probe in one.probes:
                    replies = flows.setdefault(probe.flowid, {}).setdefault(probe.ttl, [])
                    if _is_host(one.addr):
                        replies += [_lb_reply(one.addr, reply) for reply in probe.replies]
    tried = {ttl for by_ttl in flows.values() for ttl in by_ttl}
    if not tried:
        raise Unfit("no_hops", "no probe packet of any flow is told of")
    if not 1 <= min(tried) <= max(tried) <= _MAX_TTL:
        raise Unfit("out_of_range", f"TTLs from {min(tried)} to {max(tried)}; they go from 1 to {_MAX_TTL}")
    whole = {flow: by_ttl for flow, by_ttl in sorted(flows.items()) if by_ttl.keys() == tried}
    if not whole:
        flow = max(sorted(flows), key=lambda flow: len(flows[flow]))
        whole = {flow: flows[flow]}
    for flow, by_ttl in whole.items():
        hops = [hop(ttl, len(replies) or 1, replies) for ttl, replies in by_ttl.items()]
        record = traceroute(target, at_ns, engine, hops, protocol=protocol, flow=flow)
        yield Found(record=record, src=(normal(run.src),), dst=(target,))


def _lb_reply(address: str, reply: _LbReply) -> Reply:
    return Reply(
        address=normal(address),
        rtt_ns=rtt_ns(reply.rtt, may_be_zero=True),
        icmp_type=reply.icmp_type,
        icmp_code=reply.icmp_code,
        reply_ttl=reply.ttl,
    )


def _ping(run: _Ping) -> Iterator[Found]:
    target, at_ns, engine, protocol = _common(run)
    if not 0 <= run.ping_sent <= 1 << 16:
        raise Unfit("out_of_range", f"ping_sent {run.ping_sent}")
    answers: dict[int, list[_Response]] = {}
    for response in run.responses:
        if response.from_ is None or normal(response.from_) == target:
            answers.setdefault(response.seq, []).append(response)
    if any(not 0 <= sequence < run.ping_sent for sequence in answers):
        raise Unfit("bad_field", f"a response to packet {max(answers)} of {run.ping_sent}")
    samples = []
    for sequence in range(run.ping_sent):
        some = answers.get(sequence, [])
        other: dict[str, Any] = {"reply_ttl": some[0].reply_ttl, "duplicates": len(some) - 1} if some else {}
        samples.append(sample(sequence, at_ns, rtt_ns(some[0].rtt) if some else None, **other))
    yield Found(record=ping(target, at_ns, engine, samples, method=protocol), src=(normal(run.src),), dst=(target,))
