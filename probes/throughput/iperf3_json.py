"""What iperf3 says of a TCP test in its JSON (``iperf3 -J``, 3.6 and later). Pure.

Real output is not always JSON: an interrupted run leaves a truncated document, a terminal puts escapes before it, a
server that is busy answers with only an error. Each of these is an Iperf3Error with one sentence. A receiver that
counted nothing (it happens when the test ends before its first report) is not a rate of zero.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from records.units import SECOND

__all__ = ["Iperf3Error", "Iperf3Report", "parse_iperf3"]


class Iperf3Error(ValueError):
    """No result; says why. `is_busy`: the server runs another test, so trying later may help."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.is_busy = "busy running a test" in why


@dataclass(frozen=True, slots=True, kw_only=True)
class Iperf3Report:
    """One TCP test, from the receiver's counters; None where iperf3 does not say.

    direction             up: the client sent; down: the server did (``-R``)
    transferred_bytes     payload received, and duration_ns the time that took
    retransmits           of the sender
    rtt_ns                smoothed RTT in the last interval, mean over streams; rtt_min_ns the least one seen
    congestion_control    of the sender
    """

    direction: Literal["up", "down"]
    transferred_bytes: int
    duration_ns: int
    throughput_bps: int
    retransmits: int | None = None
    rtt_ns: int | None = None
    rtt_min_ns: int | None = None
    congestion_control: str | None = None


def parse_iperf3(text: str) -> Iperf3Report:
    """The result of one ``iperf3 -J`` run. Raises Iperf3Error when there is none in it."""
    begin = text.find("{")
    if begin < 0:
        raise Iperf3Error(f"iperf3 wrote no JSON: {_short(text)}")
    try:
        document, _ = json.JSONDecoder().raw_decode(text[begin:])
    except (ValueError, RecursionError):
        raise Iperf3Error("iperf3's JSON is cut short or broken") from None
    if not isinstance(document, dict):
        raise Iperf3Error("iperf3's JSON is no object")
    if document.get("error"):
        raise Iperf3Error(_short(str(document["error"]).removeprefix("error - ")))
    test = _object(_object(document.get("start")).get("test_start"))
    protocol = test.get("protocol")
    if protocol not in (None, "TCP"):
        raise Iperf3Error(f"the test was over {_short(str(protocol))}, not TCP")
    end = _object(document.get("end"))
    received = _object(end.get("sum_received"))
    transferred_bytes, seconds = _number(received.get("bytes")), _number(received.get("seconds"))
    if not transferred_bytes or not seconds:
        raise Iperf3Error("the receiver counted no bytes: the test was too short")
    sent = _object(end.get("sum_sent"))
    retransmits = _number(sent.get("retransmits"))
    rtt_us = [value for stream in _last_streams(document) if (value := _number(stream.get("rtt")))]
    least_us = [
        value for stream in _objects(end.get("streams")) if (value := _number(_object(stream.get("sender")).get("min_rtt")))
    ]  # 0 stands for "not known"
    congestion = end.get("sender_tcp_congestion")
    return Iperf3Report(
        direction="down" if test.get("reverse") else "up",
        transferred_bytes=int(transferred_bytes),
        duration_ns=max(1, round(seconds * SECOND)),
        throughput_bps=round(transferred_bytes * 8 / seconds),
        retransmits=None if retransmits is None else int(retransmits),
        rtt_ns=round(sum(rtt_us) / len(rtt_us) * 1000) if rtt_us else None,
        rtt_min_ns=round(min(least_us) * 1000) if least_us else None,
        congestion_control=congestion if isinstance(congestion, str) and congestion else None,
    )


def _last_streams(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The streams of the last interval that carry the sender's RTT."""
    for interval in reversed(list(_objects(document.get("intervals")))):
        streams = list(_objects(interval.get("streams")))
        if any("rtt" in stream for stream in streams):
            return iter(streams)
    return iter(())


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> Iterator[dict[str, Any]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def _number(value: object) -> float | None:
    """A finite number that is not negative and fits 64 bits; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 63:
        return None
    return value if math.isfinite(value) else None


def _short(text: str) -> str:
    return " ".join(text.split())[:200] or "(nothing)"
