"""Every format that can be imported: its name, what it is, and the parser that reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from warehouse.importers import (
    dublin_traceroute,
    fping,
    globalping,
    iperf3,
    mtr,
    ndt7,
    perfsonar,
    ping,
    ripe_atlas,
    scamper,
    throughput_matrix,
    traceroute,
    trippy,
)
from warehouse.importers.found import Found, Given, Unfit

__all__ = ["FORMATS", "PARSERS", "Parser"]

Lines = Callable[[Iterable[tuple[int, str]], Given], Iterator[Found | Unfit]]
Documents = Callable[[object, Given], Iterable[Found | Unfit]]


@dataclass(frozen=True, slots=True)
class Parser:
    """How a format of measurements is read; at least one of the two.

    lines      of text: numbered lines -> measurements
    documents  of JSON: one document (an array's item, a line of JSON lines) -> its measurements; may raise Unfit
    is_whole   a file of which a document or row is broken is stored not at all
    """

    lines: Lines | None = None
    documents: Documents | None = None
    is_whole: bool = False


#: Every format, and what it is.
FORMATS = {
    "rtt-matrix": "CSV of round-trip times between sites: src,dst,rtt_ms",
    "throughput-matrix": "CSV of achieved rates between sites: src,dst,throughput_mbps",
    "ripe-atlas": "results of RIPE Atlas: ping, traceroute",
    "globalping": "measurements of the Globalping API: ping, traceroute, mtr",
    "scamper": "scamper's JSON lines, M-Lab's too: trace, tracelb, ping",
    "mtr": "what mtr --json, --csv, --raw or --report prints",
    "fping": "what fping -c N, -C N or -l prints",
    "ping": "what ping prints",
    "traceroute": "what traceroute prints",
    "iperf3": "what iperf3 -J, or iperf3 alone, prints of a TCP test",
    "ndt7": "results of M-Lab's ndt7 as its server archives them",
    "perfsonar": "results of pScheduler: rtt, trace, throughput",
    "dublin-traceroute": "dublin-traceroute's JSON",
    "trippy": "what trip --mode json prints",
}

#: The formats whose measurements go in one by one; rtt-matrix has a table of its own.
PARSERS = {
    "throughput-matrix": Parser(lines=throughput_matrix.parse, is_whole=True),
    "ripe-atlas": Parser(documents=ripe_atlas.document),
    "globalping": Parser(documents=globalping.document),
    "scamper": Parser(documents=scamper.document, is_whole=True),
    "mtr": Parser(lines=mtr.parse, documents=mtr.document),
    "fping": Parser(lines=fping.parse),
    "ping": Parser(lines=ping.parse),
    "traceroute": Parser(lines=traceroute.parse),
    "iperf3": Parser(lines=iperf3.parse, documents=iperf3.document),
    "ndt7": Parser(documents=ndt7.document),
    "perfsonar": Parser(documents=perfsonar.document),
    "dublin-traceroute": Parser(documents=dublin_traceroute.document),
    "trippy": Parser(documents=trippy.document),
}
