"""The text of ``fping -c N``, ``-C N`` and ``-l``: single packets by host. Pure.

``-D`` gives every packet its time; without it all packets of a host carry the time given, for fping does not say how far
apart they were. What fping says without single packets (``-q``, ``-Q``, ``-a``) is a summary and is not stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from records.units import SECOND
from warehouse.importers.found import Found, Given, Unfit, ping, rtt_ns, sample

__all__ = ["parse"]

_HOST = r"(?:\[(?P<stamp>\d+)\.(?P<fraction>\d{1,9})\] )?(?P<host>\S+)(?: \((?P<address>\S+)\))?\s+: "
_PACKET = re.compile(_HOST + r"\[(?P<index>\d+)\], (?:(?P<bytes>\d+) bytes, (?P<rtt>\d+(?:\.\d+)?) ms|timed out)\b.*")
_PACKET_BEGINS = re.compile(r"(?:\[\d+\.\d+\] )?\S+\s*: \[\d+")
_DUPLICATE = re.compile(_HOST + r"duplicate for \[(?P<index>\d+)\], .*")
_ALL = re.compile(_HOST + r"(?P<rtts>(?:-|\d+(?:\.\d+)?)(?: (?:-|\d+(?:\.\d+)?))*)\s*")
_SUMMARY = re.compile(_HOST + r"xmt/rcv/%\w+ = (?P<sent>\d+)/(?P<received>\d+)/.*")
_ALIVE = re.compile(r"(?P<host>[^\s:\[]\S*)(?: is (?:alive|unreachable).*)?\s*")
_ERROR = re.compile(r"ICMP .+ from \S+ for ICMP Echo sent to \S+.*")
#: A host of `fping -l` is given out after this many packets.
_ROUND = 1000


@dataclass(slots=True)
class _Host:
    place: int
    packets: dict[int, tuple[int | None, int | None]] = field(default_factory=dict)  # index -> time of the line, RTT
    duplicates: dict[int, int] = field(default_factory=dict)
    payload_bytes: int | None = None


def parse(lines: Iterable[tuple[int, str]], given: Given) -> Iterator[Found | Unfit]:
    """The rounds in the lines (number from 1, text)."""
    hosts: dict[str, _Host] = {}
    told: set[str] = set()
    is_any = False
    for number, line in lines:
        if packet := _PACKET.fullmatch(line):
            is_any = True
            name, index = packet["host"], int(packet["index"])
            told.add(name)
            if name in hosts and (index in hosts[name].packets or len(hosts[name].packets) >= _ROUND):
                yield _found(name, hosts.pop(name), given)
            host = hosts.setdefault(name, _Host(number))
            try:
                rtt = None if packet["rtt"] is None else rtt_ns(float(packet["rtt"]))
            except Unfit as fault:
                yield Unfit(fault.reason, f"{name}: {fault.detail}", number)
                continue
            host.packets[index] = (_stamp(packet), rtt)
            # What fping counts as bytes is the ICMP message: eight are its header.
            host.payload_bytes = int(packet["bytes"]) - 8 if packet["bytes"] else host.payload_bytes
        elif duplicate := _DUPLICATE.fullmatch(line):
            if duplicate["host"] in hosts:
                host = hosts[duplicate["host"]]
                host.duplicates[int(duplicate["index"])] = host.duplicates.get(int(duplicate["index"]), 0) + 1
        elif every := _ALL.fullmatch(line):
            is_any = True
            told.add(every["host"])
            yield _all(every["host"], number, every["rtts"].split(), given)
        elif summary := _SUMMARY.fullmatch(line):
            is_any = True
            if summary["host"] not in told:
                yield Unfit("summary_only", f"{summary['host']}: only counts and a mean; fping -C N prints every packet", number)
        elif _PACKET_BEGINS.match(line):
            is_any = True
            yield Unfit("cut_off", f"a packet's line that cannot be read to its end: {line[:100]}", number)
        elif not _ERROR.fullmatch(line) and (alive := _ALIVE.fullmatch(line)):
            is_any = True
            yield Unfit("no_rtt", f"{alive['host']}: fping -C N says after how long it answered", number)
    for name, host in hosts.items():
        yield _found(name, host, given)
    if not is_any:
        yield Unfit("not_this_format", "no line is of fping's output: HOST : [0], 64 bytes, 0.041 ms (...)")


def _stamp(match: re.Match[str]) -> int | None:
    return None if match["stamp"] is None else int(match["stamp"]) * SECOND + int(match["fraction"].ljust(9, "0"))


def _all(name: str, number: int, rtts: list[str], given: Given) -> Found | Unfit:
    """A host's line of ``-C``: the RTT of every packet, ``-`` for a lost one."""
    host = _Host(number)
    try:
        host.packets = {index: (None, None if rtt == "-" else rtt_ns(float(rtt))) for index, rtt in enumerate(rtts)}
    except Unfit as fault:
        return Unfit(fault.reason, f"{name}: {fault.detail}", number)
    return _found(name, host, given)


def _found(name: str, host: _Host, given: Given) -> Found | Unfit:
    first, last = min(host.packets, default=0), max(host.packets, default=0)
    sent = {index: at - (rtt or 0) for index, (at, rtt) in host.packets.items() if at is not None and rtt is not None}
    started = min(sent.values(), default=given.at_ns)
    try:
        samples = [
            sample(index - first, sent.get(index, started), host.packets[index][1], duplicates=host.duplicates.get(index, 0))
            for index in range(first, last + 1)
            if index in host.packets and started is not None
        ]
        record = ping(name, started, "fping", samples, payload_bytes=host.payload_bytes)
    except Unfit as fault:
        return Unfit(fault.reason, fault.detail, host.place)
    return Found(record=record, src=(), dst=(name,), place=host.place)
