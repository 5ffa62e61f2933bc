"""What iperf3 prints of a TCP test, as JSON (``-J``) or as text. Pure.

The rate is the receiver's, over the time it took: what the sender handed to its kernel may never have arrived. A receiver
that counted nothing is no rate of zero. Text has three digits and no time; JSON has both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from records.measurement import ThroughputResult
from records.units import SECOND
from warehouse.importers.found import Found, Given, Unfit, head, read, when_ns

__all__ = ["document", "parse"]

_Number = Annotated[float, msgspec.Meta(ge=0, le=float(1 << 62))]


class _Connected(msgspec.Struct):
    local_host: str
    remote_host: str


class _Peer(msgspec.Struct):
    host: str = ""


class _Time(msgspec.Struct):
    timesecs: int


class _Test(msgspec.Struct):
    protocol: str = "TCP"
    reverse: int = 0
    bidir: int = 0
    bytes: _Number = 0
    blocks: _Number = 0


class _Start(msgspec.Struct):
    connected: list[_Connected] = []
    version: str = "iperf3"
    timestamp: _Time | None = None
    connecting_to: _Peer | None = None
    accepted_connection: _Peer | None = None
    test_start: _Test | None = None


class _Stream(msgspec.Struct):
    rtt: _Number = 0


class _Interval(msgspec.Struct):
    streams: list[_Stream] = []


class _Sender(msgspec.Struct):
    min_rtt: _Number = 0


class _EndStream(msgspec.Struct):
    sender: _Sender | None = None


class _Sum(msgspec.Struct):
    seconds: _Number = 0
    bytes: _Number = 0
    retransmits: _Number | None = None


class _End(msgspec.Struct):
    streams: list[_EndStream] = []
    sum_sent: _Sum | None = None
    sum_received: _Sum | None = None
    sender_tcp_congestion: str | None = None


class _Document(msgspec.Struct):
    start: _Start
    end: _End
    intervals: list[_Interval] = []
    error: str | None = None


def document(value: object, given: Given) -> Iterator[Found]:
    """The test of one ``iperf3 -J``; raises Unfit."""
    test = read(value, _Document)
    start, spec = test.start, test.start.test_start
    if test.error is not None:
        raise Unfit("measurement_failed", f"iperf3 says: {test.error}")
    if spec is None or not start.connected:
        raise Unfit("measurement_failed", "iperf3 never began the test")
    if spec.protocol != "TCP":
        raise Unfit("not_tcp", f"the test was over {spec.protocol}: its rate is the one that was asked for")
    if spec.bidir:
        raise Unfit("not_tcp", "the test went both ways at once, which is two tests in one sum")
    local, remote = start.connected[0].local_host, start.connected[0].remote_host
    is_server = start.accepted_connection is not None
    named = start.connecting_to.host if start.connecting_to is not None else ""
    ends = (remote, local) if is_server else (local, remote)
    received, sent, streams = test.end.sum_received, test.end.sum_sent, _rtts(test)
    if received is None or not received.bytes or not received.seconds:
        raise Unfit("no_bytes", "the receiver counted no bytes: the test was too short, or its end is missing")
    least_us = [stream.sender.min_rtt for stream in test.end.streams if stream.sender is not None and stream.sender.min_rtt]
    at_ns = when_ns(start.timestamp.timesecs) if start.timestamp is not None else given.at_ns
    record = _record(
        named or ends[1],
        at_ns,
        start.version,
        "down" if spec.reverse else "up",
        round(received.bytes),
        received.seconds,
        None if sent is None or sent.retransmits is None else round(sent.retransmits),
        stop_reason="bytes" if spec.bytes or spec.blocks else "time",
        tcp_rtt_ns=round(sum(streams) / len(streams) * 1000) if streams else None,
        tcp_min_rtt_ns=round(min(least_us) * 1000) if least_us else None,
        congestion_control=test.end.sender_tcp_congestion or None,
    )
    yield Found(record=record, src=(ends[0],), dst=tuple(dict.fromkeys(name for name in (ends[1], named) if name)))


def _rtts(test: _Document) -> list[float]:
    """Smoothed RTT in us of the streams in the last interval that has any; 0 stands for "not known"."""
    for interval in reversed(test.intervals):
        if found := [stream.rtt for stream in interval.streams if stream.rtt]:
            return found
    return []


def _record(
    target: str,
    at_ns: int | None,
    version: str,
    direction: Literal["up", "down"],
    transferred_bytes: int,
    seconds: float,
    retransmits: int | None,
    **other: Any,
) -> ThroughputResult:
    return ThroughputResult(
        **head(target, at_ns, version.replace("iperf ", "iperf3/")),
        tool="iperf3",
        direction=direction,
        transferred_bytes=transferred_bytes,
        duration_ns=round(seconds * SECOND),
        throughput_bps=round(transferred_bytes * 8 / seconds),
        retransmits=retransmits,
        **other,
    )


_CONNECTED = re.compile(r"\[\s*\d+\] local (?P<local>\S+) port \d+ connected to (?P<remote>\S+) port \d+")
_NAMED = re.compile(r"Connecting to host (?P<name>\S+), port \d+")
_TOTAL = re.compile(
    r"\[\s*(?P<id>\d+|SUM)\]\s+(?P<start>[\d.]+)-(?P<end>[\d.]+)\s+sec\s+(?P<amount>[\d.]+) (?P<unit>[KMGT]?)Bytes\s+"
    r"[\d.]+ [KMGT]?bits/sec(?:\s+(?P<retransmits>\d+))?\s+(?P<who>sender|receiver)\s*"
)
#: iperf3 prints bytes by powers of 1024.
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(slots=True)
class _Run:
    place: int
    name: str = ""
    ends: tuple[str, str] | None = None
    is_reverse: bool = False
    streams: int = 0
    is_udp: bool = False
    fault: str | None = None
    sender: re.Match[str] | None = None
    receiver: re.Match[str] | None = None


def parse(lines: Iterable[tuple[int, str]], given: Given) -> Iterator[Found | Unfit]:
    """The tests in the lines of iperf3's text (number from 1, text)."""
    run: _Run | None = None
    for number, line in lines:
        if named := _NAMED.match(line):
            if run is not None:
                yield _of_text(run, given)
            run = _Run(number, named["name"])
        elif line.startswith("iperf3: error"):
            run = run or _Run(number)
            run.fault = line.partition("error - ")[2] or line
        elif run is not None:
            _line(run, line)
    if run is None:
        raise Unfit("not_this_format", "this is neither iperf3's JSON nor its text: Connecting to host ..., port 5201")
    yield _of_text(run, given)


def _line(run: _Run, line: str) -> None:
    if line.startswith("Reverse mode"):
        run.is_reverse = True
    elif connected := _CONNECTED.match(line):
        run.ends, run.streams = (connected["local"], connected["remote"]), run.streams + 1
    elif "Datagrams" in line:
        run.is_udp = True
    elif (total := _TOTAL.fullmatch(line)) and (run.streams == 1 or total["id"] == "SUM"):
        if total["who"] == "sender":
            run.sender = total
        else:
            run.receiver = total


def _of_text(run: _Run, given: Given) -> Found | Unfit:
    if run.fault is not None:
        return Unfit("measurement_failed", f"iperf3 says: {run.fault}", run.place)
    if run.is_udp:
        return Unfit("not_tcp", "the test was over UDP: its rate is the one that was asked for", run.place)
    if run.ends is None or run.receiver is None:
        return Unfit("cut_off", "the text ends before the receiver's total", run.place)
    seconds = float(run.receiver["end"]) - float(run.receiver["start"])
    amount = round(float(run.receiver["amount"]) * _UNITS[run.receiver["unit"]])
    if not amount or seconds <= 0:
        return Unfit("no_bytes", "the receiver counted no bytes: the test was too short", run.place)
    retransmits = None if run.sender is None or run.sender["retransmits"] is None else int(run.sender["retransmits"])
    direction: Literal["up", "down"] = "down" if run.is_reverse else "up"
    try:
        record = _record(run.name, given.at_ns, "iperf3", direction, amount, seconds, retransmits, stop_reason="time")
    except Unfit as fault:
        return Unfit(fault.reason, fault.detail, run.place)
    return Found(record=record, src=(run.ends[0],), dst=tuple(dict.fromkeys((run.ends[1], run.name))), place=run.place)
