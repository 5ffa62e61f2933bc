"""What an inference server says of itself, and whether it agrees with what its clients waited.

Two readings of a server's metrics bound what it says of the time between them. A client that asked and was answered in that time
knows what it really waited. The two disagree when one of these holds; each is arithmetic on counters, no estimate:

unaccounted   the clients' waits add up to more than all the time to first token that the server counted, though it counted every
              request: something between the network and its own clock (a proxy, a router, its front end) made them wait
overstated    the server counted exactly the clients' requests, and more waiting than they had
uncounted     the server counted fewer answered requests than the clients had answers: others answer in its place
absent        while clients waited for their first token it said that it had fewer requests, running and waiting, than they had with it

A client's wait is its TTFT less one round trip of the same connection (TCP_INFO). `TOLERANCE_NS` and `TOLERANCE_RATIO` of it are
allowed for each request: for its way through sockets, TLS, JSON and tokenizer, which is the server's but not in its counters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from records.measurement import InferenceResult, Measurement

__all__ = ["TOLERANCE_NS", "TOLERANCE_RATIO", "Disagreement", "ServingOutcome", "ServingResult", "Wait", "disagreements", "wait_of"]

ServingOutcome = Literal["ok", "no_metrics", "http_error", "timeout", "connect_failed", "protocol_error"]

#: Allowed for each request, on top of which comes TOLERANCE_RATIO of its wait.
TOLERANCE_NS = 50_000_000
TOLERANCE_RATIO = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingResult(Measurement):
    """What an inference server says of itself at one moment: one reading of its own metrics (Prometheus text).

    Every number is the server's claim, added up over its engines and models (kv_cache_ratio: the fullest). The counts and
    sums grow from the server's start; two readings of the same life differ by what happened between them, see
    records.claims. None is what the server does not publish.

    started_at_ns    the moment: when the request left
    server           whose names they are: vllm, sglang, triton, trtllm or llamacpp
    model            its name where the metrics name exactly one
    took_ns          from the start of the connection to the last byte
    requests_running, requests_waiting   being served, and in the queue
    kv_cache_ratio   of the KV cache in use, 0 to 1
    queue_sum_ns, queue_count       time that requests waited in the queue, of how many
    prefill_sum_ns, prefill_count   time from leaving the queue to the first token, of how many
    ttft_sum_ns, ttft_count         time to first token as the server sees it, of how many
    prompt_tokens_total, output_tokens_total   tokens read and written
    server_started_at_ns   when its process began, Unix time
    """

    outcome: ServingOutcome
    server: str | None = None
    model: str | None = None
    http_status: int | None = None
    took_ns: int | None = None
    requests_running: int | None = None
    requests_waiting: int | None = None
    kv_cache_ratio: float | None = None
    queue_sum_ns: int | None = None
    queue_count: int | None = None
    prefill_sum_ns: int | None = None
    prefill_count: int | None = None
    ttft_sum_ns: int | None = None
    ttft_count: int | None = None
    prompt_tokens_total: int | None = None
    output_tokens_total: int | None = None
    server_started_at_ns: int | None = None
    response_bytes: int | None = None
    tcp_rtt_ns: int | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if (self.outcome == "ok") != (self.server is not None):
            raise ValueError("a reading that worked knows whose metrics they are, and no other does")
        if (self.outcome == "ok") != (self.error is None):
            raise ValueError(f"outcome {self.outcome!r}: a reading that failed says why, and no other does")
        if self.kv_cache_ratio is not None and not 0 <= self.kv_cache_ratio <= 1:
            raise ValueError(f"kv_cache_ratio {self.kv_cache_ratio} is not a share from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """One answered request as its client saw it: sent and first token (Unix time, ns), and the round trip of its connection."""

    sent_at_ns: int
    first_at_ns: int
    rtt_ns: int

    @property
    def machine_ns(self) -> int:
        """What of the wait was not the network's."""
        return max(0, self.first_at_ns - self.sent_at_ns - self.rtt_ns)

    @property
    def tolerance_ns(self) -> int:
        """How far off the server may be."""
        return TOLERANCE_NS + int(TOLERANCE_RATIO * self.machine_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """One way in which a server's claim and its clients' waits cannot both be true.

    at_ns               of the reading, Unix time
    claim, seen         the server's number and the clients': ns of waiting (unaccounted, overstated), requests (uncounted, absent)
    """

    kind: Literal["unaccounted", "overstated", "uncounted", "absent"]
    at_ns: int
    claim: int
    seen: int


def wait_of(result: InferenceResult) -> Wait | None:
    """The wait of an answered request; None when there is no first token or no round trip."""
    rtt_ns = result.tcp_min_rtt_ns or result.tcp_rtt_ns
    if result.ttft_ns is None or rtt_ns is None:
        return None
    sent_at_ns = result.started_at_ns + sum(part or 0 for part in (result.dns_ns, result.tcp_ns, result.tls_ns))
    return Wait(sent_at_ns=sent_at_ns, first_at_ns=sent_at_ns + result.ttft_ns, rtt_ns=rtt_ns)


def disagreements(readings: Sequence[ServingResult], waits: Sequence[Wait]) -> list[Disagreement]:
    """Between the first and the last reading that worked, in order of time; both ends by the same clock.

    A server that was started anew in between, or whose counters went back, is judged by its gauges only.
    """
    good = sorted((reading for reading in readings if reading.outcome == "ok"), key=lambda reading: reading.started_at_ns)
    if not good:
        return []
    first, last = good[0], good[-1]
    inside = [wait for wait in waits if wait.sent_at_ns >= first.started_at_ns and wait.first_at_ns <= last.started_at_ns]
    found = _of_counters(first, last, inside) if inside else []
    found += [one for reading in good if (one := _of_gauges(reading, waits)) is not None]
    return sorted(found, key=lambda one: one.at_ns)


def _of_counters(first: ServingResult, last: ServingResult, waits: Sequence[Wait]) -> list[Disagreement]:
    told = _counted_wait(first, last)
    if told is None or first.server_started_at_ns != last.server_started_at_ns:
        return []
    count, waited_ns = told
    if count < len(waits):
        return [Disagreement(kind="uncounted", at_ns=last.started_at_ns, claim=count, seen=len(waits))]
    seen_ns, allowed_ns = sum(wait.machine_ns for wait in waits), sum(wait.tolerance_ns for wait in waits)
    if seen_ns > waited_ns + allowed_ns:
        return [Disagreement(kind="unaccounted", at_ns=last.started_at_ns, claim=waited_ns, seen=seen_ns)]
    if count == len(waits) and waited_ns > seen_ns + allowed_ns:
        return [Disagreement(kind="overstated", at_ns=last.started_at_ns, claim=waited_ns, seen=seen_ns)]
    return []


def _counted_wait(first: ServingResult, last: ServingResult) -> tuple[int, int] | None:
    """Requests and their time to first token between two readings, as the server counts; None: it does not say, or began anew."""
    told = _grown(first.ttft_count, last.ttft_count, first.ttft_sum_ns, last.ttft_sum_ns)
    if told is not None:
        return told
    queued = _grown(first.queue_count, last.queue_count, first.queue_sum_ns, last.queue_sum_ns)
    read = _grown(first.prefill_count, last.prefill_count, first.prefill_sum_ns, last.prefill_sum_ns)
    return None if queued is None or read is None else (min(queued[0], read[0]), queued[1] + read[1])


def _grown(count: int | None, later_count: int | None, sum_ns: int | None, later_sum_ns: int | None) -> tuple[int, int] | None:
    if count is None or later_count is None or sum_ns is None or later_sum_ns is None:
        return None
    grown = later_count - count, later_sum_ns - sum_ns
    return None if min(grown) < 0 else grown


def _of_gauges(reading: ServingResult, waits: Sequence[Wait]) -> Disagreement | None:
    if reading.requests_running is None or reading.requests_waiting is None or reading.took_ns is None:
        return None
    begin_ns, end_ns = reading.started_at_ns, reading.started_at_ns + reading.took_ns
    # Certainly with the server all the while that the reading may have been made: it had come, and its token had not left.
    there = sum(
        wait.sent_at_ns + wait.rtt_ns + TOLERANCE_NS <= begin_ns and end_ns <= wait.first_at_ns - wait.rtt_ns - TOLERANCE_NS
        for wait in waits
    )
    said = reading.requests_running + reading.requests_waiting
    return None if said >= there else Disagreement(kind="absent", at_ns=reading.started_at_ns, claim=said, seen=there)
