"""What iperf3 says of a test in its JSON (``iperf3 -J``, 3.6 and later): TCP and UDP, one or several streams, one direction or both. Pure.

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
    """No result; says why.

    is_busy     the server runs another test, so trying later may help
    has_begun   data may have gone: nothing tells that no stream of it was connected
    """

    def __init__(self, why: str, *, has_begun: bool = True) -> None:
        super().__init__(why)
        self.is_busy = "busy running a test" in why
        self.has_begun = has_begun


@dataclass(frozen=True, slots=True, kw_only=True)
class Iperf3Report:
    """One direction of a test, from the receiver's counters; None where iperf3 does not say.

    direction             up: the client sent; down: the server did (``-R``)
    transferred_bytes     payload received, and duration_ns the time that took
    sent_bytes            payload sent: more, where packets were lost or the receiver's last report came too early
    retransmits           of the sender
    rtt_ns                smoothed RTT in the last interval, mean over streams; rtt_min_ns the least one seen
    congestion_control    of the sender
    protocol, streams     tcp or udp; connections at the same time
    is_bidirectional      the other direction ran at the same time (``--bidir``)
    udp_packets, udp_lost_packets, udp_jitter_ns   of UDP
    """

    direction: Literal["up", "down"]
    transferred_bytes: int
    sent_bytes: int | None
    duration_ns: int
    throughput_bps: int
    retransmits: int | None = None
    rtt_ns: int | None = None
    rtt_min_ns: int | None = None
    congestion_control: str | None = None
    protocol: Literal["tcp", "udp"] = "tcp"
    streams: int = 1
    is_bidirectional: bool = False
    udp_packets: int | None = None
    udp_lost_packets: int | None = None
    udp_jitter_ns: int | None = None


def parse_iperf3(text: str) -> tuple[Iperf3Report, ...]:
    """The results of one ``iperf3 -J`` run, one for each direction. Raises Iperf3Error when there is none in it."""
    begin = text.find("{")
    if begin < 0:
        raise Iperf3Error(f"iperf3 wrote no JSON: {_short(text)}")
    try:
        document, _ = json.JSONDecoder().raw_decode(text[begin:])
    except (ValueError, RecursionError):
        raise Iperf3Error("iperf3's JSON is cut short or broken") from None
    if not isinstance(document, dict):
        raise Iperf3Error("iperf3's JSON is no object")
    start = _object(document.get("start"))
    if document.get("error"):
        has_begun = bool(start.get("connected")) or "test_start" in start
        raise Iperf3Error(_short(str(document["error"]).removeprefix("error - ")), has_begun=has_begun)
    test, end = _object(start.get("test_start")), _object(document.get("end"))
    protocol = test.get("protocol")
    if protocol not in (None, "TCP", "UDP"):
        raise Iperf3Error(f"the test was over {_short(str(protocol))}, neither TCP nor UDP")
    forward: Literal["up", "down"] = "down" if test.get("reverse") else "up"
    if "sum_received_bidir_reverse" not in end and "sum_bidir_reverse" not in end:
        return (_report(document, test, end, forward, ""),)
    return (_report(document, test, end, "up", ""), _report(document, test, end, "down", "_bidir_reverse"))


def _report(
    document: dict[str, Any], test: dict[str, Any], end: dict[str, Any], direction: Literal["up", "down"], suffix: str
) -> Iperf3Report:
    """One direction; `suffix` is that of its sums' names."""
    is_udp = test.get("protocol") == "UDP"
    sums = _object(end.get(f"sum{suffix}"))
    received = _object(end.get(f"sum_received{suffix}"))
    packets, lost = _number(sums.get("packets")), _number(sums.get("lost_packets"))
    if is_udp and not received:  # before 3.10 there is only one sum, of what was sent
        share = 1 - min(lost or 0, packets) / packets if packets else 0
        received = {"bytes": (_number(sums.get("bytes")) or 0) * share, "seconds": sums.get("seconds")}
    sent_bytes = _number(_object(end.get(f"sum_sent{suffix}") or (sums if is_udp else None)).get("bytes"))
    transferred_bytes, seconds = _number(received.get("bytes")), _number(received.get("seconds"))
    if not transferred_bytes or not seconds:
        raise Iperf3Error("the receiver counted no bytes: the test was too short")
    jitter_ms = _number(sums.get("jitter_ms"))
    retransmits = None if is_udp else _number(_object(end.get(f"sum_sent{suffix}")).get("retransmits"))
    # What iperf3 tells of the connection's RTT is of the streams that this end sent.
    is_ours = direction == "up" and not is_udp
    rtt_us = [value for stream in _last_streams(document) if (value := _number(stream.get("rtt")))] if is_ours else []
    least_us = [
        value for stream in _objects(end.get("streams")) if (value := _number(_object(stream.get("sender")).get("min_rtt")))
    ]  # 0 stands for "not known"
    congestion = end.get("sender_tcp_congestion" if not suffix else "receiver_tcp_congestion")
    streams = _number(test.get("num_streams"))
    return Iperf3Report(
        direction=direction,
        transferred_bytes=int(transferred_bytes),
        sent_bytes=None if sent_bytes is None else int(sent_bytes),
        duration_ns=max(1, round(seconds * SECOND)),
        throughput_bps=round(transferred_bytes * 8 / seconds),
        retransmits=None if retransmits is None else int(retransmits),
        rtt_ns=round(sum(rtt_us) / len(rtt_us) * 1000) if rtt_us else None,
        rtt_min_ns=round(min(least_us) * 1000) if least_us and is_ours else None,
        congestion_control=congestion if isinstance(congestion, str) and congestion and not is_udp else None,
        protocol="udp" if is_udp else "tcp",
        streams=int(streams) if streams and streams < 1_000 else 1,
        is_bidirectional=bool(suffix) or "sum_received_bidir_reverse" in end,
        udp_packets=int(packets) if is_udp and packets is not None else None,
        udp_lost_packets=int(lost) if is_udp and lost is not None else None,
        udp_jitter_ns=round(jitter_ms * 1_000_000) if is_udp and jitter_ms is not None else None,
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
