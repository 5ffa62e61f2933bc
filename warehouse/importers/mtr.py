"""What ``mtr --json``, ``--csv``, ``--raw`` and ``--report`` print: the path, with how often each hop answered. Pure.

A hop's RTT is the least one (``Best``), which is of one packet, not the mean, which is of none. mtr sends ICMP unless told
otherwise (--protocol). Use ``-n``: with names for the hops and an address for the target, or the other way round, it cannot be
told whether the last hop is the target, and `reached` is then false. The report and the raw format do not name the target
(--target ADDRESS).
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec

from records.measurement import Hop
from warehouse.importers.found import Found, Given, Reply, Unfit, hop, iso_ns, normal, read, rtt_ns, traceroute, when_ns

__all__ = ["document", "parse"]

_SILENT = "???"
_NAMED = re.compile(r"(?P<name>\S+) \((?P<address>[^)]+)\)")
_ROW = re.compile(
    r"\s*(?P<ttl>\d+)\.\s*(?:\[?AS\S+\]?\s+)?\|?--\s*(?P<host>\S+(?: \([^)]+\))?)\s+"
    r"(?P<loss>\d+(?:\.\d+)?)%?\s+(?P<sent>\d+)\s+(?P<rtts>[\d. ]+)"
)
_RAW = re.compile(r"[xhdptm] \d+( \S+)*")

_Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
_Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]


class _Hub(msgspec.Struct):
    count: _Count
    host: str
    loss: _Percent = msgspec.field(name="Loss%")
    sent: _Count = msgspec.field(name="Snt")
    best: float = msgspec.field(name="Best")


class _Mtr(msgspec.Struct):
    dst: str
    src: str = ""
    psize: str | int | None = None


class _Report(msgspec.Struct):
    mtr: _Mtr
    hubs: list[_Hub]


class _Document(msgspec.Struct):
    report: _Report


def document(value: object, given: Given) -> Iterator[Found]:
    """The run of ``mtr --json``; raises Unfit."""
    report = read(value, _Document).report
    hops = [_hop(hub.count, hub.host, hub.loss, hub.sent, hub.best) for hub in report.hubs]
    yield _found(hops, given, report.mtr.dst, src=report.mtr.src)


def _hop(ttl: int, host: str, loss_percent: float, sent: int, best_ms: float) -> Hop:
    received = round(sent * (1 - loss_percent / 100))
    if host == _SILENT or not received:
        return hop(ttl, sent, [])
    named = _NAMED.fullmatch(host)
    # To a tenth of a millisecond, as the report has it, a near hop's least RTT is 0.0.
    reply = Reply(address=named["address"] if named else host, rtt_ns=rtt_ns(best_ms, may_be_zero=True))
    return hop(ttl, sent, [reply] * received)


def _found(hops: list[Hop], given: Given, target: str | None, *, src: str = "", at_ns: int | None = None, place: int = 1) -> Found:
    target = target or given.target or ""
    answered = [one.address for one in hops if one.address is not None]
    if target and normal(target) in map(normal, answered):
        # mtr may go on beyond the target, which then answers at every further TTL.
        end = next(index for index, one in enumerate(hops) if one.address is not None and normal(one.address) == normal(target))
        hops = hops[: end + 1]
    record = traceroute(target, given.at_ns if at_ns is None else at_ns, "mtr", hops, protocol=given.protocol or "icmp")
    return Found(record=record, src=(src,) if src else (), dst=(target,) if target else (), place=place)


def parse(lines: Iterable[tuple[int, str]], given: Given) -> Iterator[Found | Unfit]:
    """The runs in the lines of ``--csv``, ``--raw`` or ``--report`` (number from 1, text)."""
    numbered = ((number, line) for number, line in lines if line.strip())
    first = next(numbered, None)
    if first is None:
        return
    both = itertools.chain([first], numbered)
    if first[1].startswith("Mtr_Version,"):
        yield from _csv(both, given)
    elif _RAW.fullmatch(first[1]):
        yield from _raw(both, given)
    elif first[1].startswith(("Start: ", "HOST: ")):
        yield from _report(both, given)
    else:
        raise Unfit("not_this_format", "this is none of mtr --json, --csv, --raw and --report")


def _csv(lines: Iterable[tuple[int, str]], given: Given) -> Iterator[Found | Unfit]:
    rows: list[tuple[int, dict[str, str]]] = []
    header: list[str] = []
    for number, line in lines:
        fields = next(csv.reader([line]))
        if fields[:1] == ["Mtr_Version"]:
            header = fields
            continue
        row = dict(zip(header, fields, strict=False))
        if rows and (row.get("Start_Time"), row.get("Host")) != (rows[0][1].get("Start_Time"), rows[0][1].get("Host")):
            yield _of_csv(rows, given)
            rows = []
        rows.append((number, row))
    if rows:
        yield _of_csv(rows, given)


def _of_csv(rows: list[tuple[int, dict[str, str]]], given: Given) -> Found | Unfit:
    place, head = rows[0]
    try:
        hops = [_hop(int(r["Hop"]), r["Ip"], float(r["Loss%"]), int(r["Snt"]), float(r["Best"])) for _, r in rows]
        return _found(hops, given, head["Host"], at_ns=when_ns(int(head["Start_Time"])), place=place)
    except (KeyError, ValueError) as fault:
        if isinstance(fault, Unfit):
            return Unfit(fault.reason, fault.detail, place)
        return Unfit("bad_field", f"a row of mtr --csv lacks a field or holds none of its kind: {fault}", place)


def _report(lines: Iterable[tuple[int, str]], given: Given) -> Iterator[Found | Unfit]:
    started: int | None = None
    src, place, best = "", 1, 3
    hops: list[Hop] = []
    is_any = False
    for number, line in lines:
        if line.startswith("Start: "):
            started, place = iso_ns(line.removeprefix("Start: ").strip()), number
        elif line.startswith("HOST: "):
            if hops:
                yield _guarded(hops, given, src, started, place)
            src, hops = line.split()[1], []
            columns = line.split()[2:]
            best = columns.index("Best") - 2 if "Best" in columns else 3
        elif row := _ROW.match(line):
            is_any = True
            rtts = row["rtts"].split()
            if best >= len(rtts):
                raise Unfit("cut_off", f"line {number} ends before its Best", number)
            hops.append(_hop(int(row["ttl"]), row["host"], float(row["loss"]), int(row["sent"]), float(rtts[best])))
    if hops:
        yield _guarded(hops, given, src, started, place)
    if not is_any:
        raise Unfit("no_hops", "the report has no hop")


def _guarded(hops: list[Hop], given: Given, src: str, at_ns: int | None, place: int) -> Found | Unfit:
    try:
        return _found(hops, given, None, src=src, at_ns=at_ns, place=place)
    except Unfit as fault:
        return Unfit(fault.reason, fault.detail, place)


def _raw(lines: Iterable[tuple[int, str]], given: Given) -> Iterator[Found | Unfit]:
    """``x`` a packet is sent, ``h`` who answers at a TTL, ``p`` an answer and its microseconds; TTLs from 0."""
    sent: dict[int, int] = {}
    who: dict[int, str] = {}
    replies: dict[int, list[Reply]] = {}
    for number, line in lines:
        kind, *rest = line.split()
        try:
            ttl = int(rest[0]) + 1
            if kind == "x":
                sent[ttl] = sent.get(ttl, 0) + 1
            elif kind == "h":
                who[ttl] = rest[1]
            elif kind == "p":
                replies.setdefault(ttl, []).append(Reply(address=who[ttl], rtt_ns=rtt_ns(int(rest[1]) / 1000)))
        except (IndexError, KeyError, ValueError) as fault:
            if isinstance(fault, Unfit):
                raise
            raise Unfit("bad_field", f"line {number} is none of mtr --raw: {line[:100]}", number) from fault
    hops = [hop(ttl, count, replies.get(ttl, [])) for ttl, count in sorted(sent.items())]
    while len(hops) > 1 and hops[-1].address is not None and hops[-1].address == hops[-2].address:
        hops.pop()  # mtr goes on beyond the target until it has noticed that this is it
    yield _found(hops, given, None)
