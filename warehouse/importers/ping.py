"""The text of ``ping`` (iputils, busybox, BSD), one run or many in a file. Pure.

What it says of each packet is kept: replies, duplicates, ICMP errors by sequence number, and those of which it says
nothing as time-outs. With ``-D`` every line has its time; without it the packets are spread over the run's own total,
from the time given. A run whose replies are not as many as its summary counts is not stored: what is missing is not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from records.measurement import PingResult
from records.units import MS, SECOND
from warehouse.importers.found import Found, Given, Unfit, normal, ping, rtt_ns, sample

__all__ = ["parse"]

_HEADER = re.compile(
    r"PING6? ?(?P<name>[^\s(]*) ?\((?:[^\s()]+ \()?(?P<address>[^\s()]+)\)\)?"
    r"(?: from (?P<src>\S+?)(?: [^\s:]+)? ?:(?= ))?:? (?P<size>\d+)(?:\(\d+\))? (?:data )?bytes"
)
_STAMP = r"(?:\[(?P<stamp>\d+)\.(?P<fraction>\d{1,9})\] )?"
_REPLY = re.compile(
    _STAMP + r"\d+ bytes from (?P<who>\S+)(?: \((?P<address>[^)]+)\))?: (?:icmp_)?seq=(?P<sequence>\d+) (?:ttl|hlim)=(?P<ttl>\d+) "
    r"time=(?P<rtt>\d+(?:\.\d+)?) ms(?P<dup> \(DUP!\))?\s*"
)
_ERROR = re.compile(_STAMP + r"From (?P<who>\S+?)(?: \((?P<address>[^)]+)\))?:? icmp_seq=(?P<sequence>\d+) (?P<what>.+)")
_SUMMARY = re.compile(r"(?P<sent>\d+) packets transmitted, (?P<received>\d+) (?:packets )?received,.*?(?:time (?P<ms>\d+)ms)?\s*")
#: ICMP type and code (IPv4) of iputils' words.
_ICMP = {
    "Destination Net Unreachable": (3, 0),
    "Destination Host Unreachable": (3, 1),
    "Destination Protocol Unreachable": (3, 2),
    "Destination Port Unreachable": (3, 3),
    "Destination Net Prohibited": (3, 9),
    "Destination Host Prohibited": (3, 10),
    "Packet filtered": (3, 13),
    "Time to live exceeded": (11, 0),
}
_WRAP = 1 << 16


@dataclass(slots=True)
class _Run:
    """One run as far as it has been read."""

    place: int
    name: str
    address: str
    src: str | None
    size: int
    replies: dict[int, tuple[int, int, int | None]] = field(default_factory=dict)  # sequence -> RTT, TTL, time of the reply
    errors: dict[int, dict[str, Any]] = field(default_factory=dict)
    duplicates: dict[int, int] = field(default_factory=dict)
    last: int = 0
    fault: Unfit | None = None

    def whole(self, sequence: int) -> int:
        """The sequence number beyond 16 bits: it starts anew after 65,535."""
        turns = max(0, round((self.last - sequence) / _WRAP))
        self.last = max(self.last, sequence + turns * _WRAP)
        return sequence + turns * _WRAP


def parse(lines: Iterable[tuple[int, str]], given: Given) -> Iterator[Found | Unfit]:
    """The runs in the lines (number from 1, text)."""
    run: _Run | None = None
    is_any = False
    for number, line in lines:
        if header := _HEADER.match(line):
            if run is not None:
                yield Unfit("cut_off", f"the run to {run.address} ends before its statistics", run.place)
            is_any = True
            run = _Run(number, header["name"], header["address"], header["src"], int(header["size"]))
        elif run is not None and (summary := _SUMMARY.fullmatch(line)):
            yield _found(run, int(summary["sent"]), int(summary["received"]), summary["ms"], given)
            run = None
        elif run is not None:
            try:
                _line(run, line)
            except Unfit as fault:
                run.fault = fault
    if run is not None:
        yield Unfit("cut_off", f"the run to {run.address} ends before its statistics", run.place)
    if not is_any:
        yield Unfit("not_this_format", "no line begins as ping's output does: PING host (address) 56(84) bytes of data.")


def _line(run: _Run, line: str) -> None:
    if reply := _REPLY.fullmatch(line):
        who = reply["address"] or reply["who"]
        if _is_address(who) and _is_address(run.address) and normal(who) != normal(run.address):
            raise Unfit("wrong_source", f"{who} answered for {run.address}: a reply of another host is none")
        sequence = run.whole(int(reply["sequence"]))
        if reply["dup"] or sequence in run.replies:
            run.duplicates[sequence] = run.duplicates.get(sequence, 0) + 1
        else:
            run.replies[sequence] = (rtt_ns(_milliseconds(reply["rtt"])), int(reply["ttl"]), _stamp(reply))
    elif error := _ERROR.fullmatch(line):
        icmp_type, icmp_code = _ICMP.get(error["what"].strip(), (None, None)) if ":" not in run.address else (None, None)
        fate = {"outcome": "unreachable", "responder": error["address"] or error["who"], "icmp_type": icmp_type, "icmp_code": icmp_code}
        run.errors[run.whole(int(error["sequence"]))] = fate


def _milliseconds(text: str) -> float:
    """The RTT as printed. iputils of 2018 and 2019 prints 32.98 as 32.10: one digit is left of it there, and it forgets the carry."""
    whole, _, fraction = text.partition(".")
    return float(whole) + 1 if len(whole) == 2 and fraction == "10" else float(text)


def _is_address(text: str) -> bool:
    return bool(re.fullmatch(r"[0-9.]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%\S+)?", text))


def _stamp(match: re.Match[str]) -> int | None:
    return None if match["stamp"] is None else int(match["stamp"]) * SECOND + int(match["fraction"].ljust(9, "0"))


def _found(run: _Run, sent: int, received: int, total_ms: str | None, given: Given) -> Found | Unfit:
    try:
        record = _record(run, sent, received, total_ms, given)
    except Unfit as fault:
        return Unfit(fault.reason, fault.detail, run.place)
    dst = tuple(dict.fromkeys(name for name in (run.address, run.name) if name))
    return Found(record=record, src=(run.src,) if run.src else (), dst=dst, place=run.place)


def _record(run: _Run, sent: int, received: int, total_ms: str | None, given: Given) -> PingResult:
    if run.fault is not None:
        raise run.fault
    if received > 0 and not run.replies:
        raise Unfit("summary_only", f"{received} replies were received and none is in the file; ping without -q prints them")
    if len(run.replies) != received:
        raise Unfit("bad_field", f"the statistics count {received} replies and {len(run.replies)} can be read")
    first = 0 if 0 in run.replies or 0 in run.errors else 1
    seen = run.replies.keys() | run.errors.keys()
    if seen and max(seen) - first >= sent:
        raise Unfit("bad_field", f"the statistics count {sent} packets and one has the number {max(seen)}")
    step = int(total_ms or 0) * MS // max(1, sent - 1)
    stamped = {sequence: at - rtt for sequence, (rtt, _, at) in run.replies.items() if at is not None}
    if stamped:
        anchor = min(stamped)
        started = stamped[anchor] - (anchor - first) * step
    elif given.at_ns is not None:
        started = given.at_ns
    else:
        started = None
    samples = []
    for index in range(sent if started is not None else 0):
        sequence = index + first
        at = stamped.get(sequence, (started or 0) + index * step)
        duplicates = run.duplicates.get(sequence, 0)
        if sequence in run.replies:
            rtt, ttl, _ = run.replies[sequence]
            samples.append(sample(index, at, rtt, reply_ttl=ttl, duplicates=duplicates))
        else:
            samples.append(sample(index, at, None, **run.errors.get(sequence, {})))
    return ping(run.address, started, "ping", samples, payload_bytes=run.size)
