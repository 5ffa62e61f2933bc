"""The text of ``traceroute`` (Linux, BSD), one run or many in a file. Pure.

It sends its packets to changing ports unless told otherwise, so several addresses at one TTL may be of several paths: the
one that answered most is kept. It says no time and no protocol: UDP is its own choice, --protocol says another. Every TTL
gets as many probes: a last line with fewer was cut off.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from records.measurement import Hop
from warehouse.importers.found import Found, Given, Reply, Unfit, hop, normal, rtt_ns, traceroute

__all__ = ["parse", "read_hop"]

_HEADER = re.compile(r"traceroute6? to (?P<name>\S+)\s+\((?P<address>[^\s()]+)\)(?: from (?P<src>[^\s,]+))?, \d+ hops max.*")
_HOP = re.compile(r"\s*(?P<ttl>\d{1,3})\s{1,3}(?P<rest>\S.*)")
_TOKEN = re.compile(
    r"(?P<lost>\*)|(?P<rtt>\d+(?:\.\d+)?)\s*ms\b|(?P<mark>!\S*)|(?P<asn>\[[^\]]*\])|\((?P<address>[^()\s]+)\)|(?P<name>\S+)"
)
#: ICMP type and code (IPv4) of the marks; ``!<n>`` is code n.
_MARKS = {"!N": (3, 0), "!H": (3, 1), "!P": (3, 2), "!F": (3, 4), "!S": (3, 5), "!X": (3, 13), "!V": (3, 14), "!C": (3, 15)}


@dataclass(slots=True)
class _Run:
    place: int
    name: str
    address: str
    src: str | None
    hops: dict[int, Hop] = field(default_factory=dict)
    text: dict[int, str] = field(default_factory=dict)
    ttl: int = 0
    has_reached: bool = False


def parse(lines: Iterable[tuple[int, str]], given: Given) -> Iterator[Found | Unfit]:
    """The runs in the lines (number from 1, text)."""
    run: _Run | None = None
    is_any = False
    for number, line in lines:
        if header := _HEADER.match(line):
            if run is not None:
                yield _found(run, given)
            is_any, run = True, _Run(number, header["name"], header["address"], header["src"])
        elif run is not None and (match := _HOP.fullmatch(line)):
            run.ttl = int(match["ttl"])
            run.text[run.ttl] = match["rest"]
        elif run is not None and run.ttl and line[:1].isspace() and line.strip():
            run.text[run.ttl] += " " + line.strip()  # another address at the same TTL, on a line of its own
    if run is not None:
        yield _found(run, given)
    if not is_any:
        yield Unfit("not_this_format", "no line begins as traceroute's output does: traceroute to host (address), 30 hops max")


def _found(run: _Run, given: Given) -> Found | Unfit:
    try:
        replies = {ttl: read_hop(text) for ttl, text in run.text.items()}
        _whole(run, replies)
        record = traceroute(
            run.address,
            given.at_ns,
            "traceroute",
            [hop(ttl, probes, some) for ttl, (probes, some) in replies.items()],
            protocol=given.protocol or "udp",
            reached=any(normal(reply.address) == normal(run.address) for _, some in replies.values() for reply in some),
        )
    except Unfit as fault:
        return Unfit(fault.reason, fault.detail, run.place)
    return Found(record=record, src=(run.src,) if run.src else (), dst=(run.address, run.name), place=run.place)


def _whole(run: _Run, replies: dict[int, tuple[int, list[Reply]]]) -> None:
    most, last = max((probes for probes, _ in replies.values()), default=0), replies.get(run.ttl, (0, []))[0]
    if last < most or (run.text and not last):
        raise Unfit("cut_off", f"the last line, of TTL {run.ttl}, tells {last} of {most or 'its'} probes: it was broken off")


def read_hop(text: str) -> tuple[int, list[Reply]]:
    """Probe packets and replies of what stands after a hop's number; raises Unfit."""
    who: str | None = None
    probes = 0
    replies: list[Reply] = []
    for token in _TOKEN.finditer(text):
        if token["lost"]:
            probes += 1
        elif token["rtt"]:
            if who is None:
                raise Unfit("bad_field", f"a time without a host: {text[:100]}")
            probes += 1
            replies.append(Reply(address=who, rtt_ns=rtt_ns(float(token["rtt"]))))
        elif token["mark"] and replies:
            last = replies[-1]
            kind, code = _MARKS.get(token["mark"], (None, None))
            if number := re.fullmatch(r"!<(\d+)>", token["mark"]):
                kind, code = 3, int(number[1])
            replies[-1] = Reply(address=last.address, rtt_ns=last.rtt_ns, icmp_type=kind, icmp_code=code)
        elif token["address"] or token["name"]:
            who = token["address"] or token["name"]
    return probes, replies
