"""Server's claim against clients' waits: worked by hand, and never a disagreement where a server tells the truth."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.claims import TOLERANCE_NS, ServingResult, Wait, disagreements, wait_of
from records.measurement import InferenceResult

MS = 1_000_000
HEADER: dict[str, Any] = {
    "id": "b-1",
    "agent": "a",
    "src": "sin",
    "dst": "fra",
    "medium": "internet",
    "target": "http://x/metrics",
    "engine": "e",
}


def reading(at_ms: float, **said: Any) -> ServingResult:
    return ServingResult(**{**HEADER, "started_at_ns": int(at_ms * MS), "outcome": "ok", "server": "vllm", "took_ns": 2 * MS, **said})


def counted(at_ms: float, count: int, sum_ms: float, **said: Any) -> ServingResult:
    return reading(at_ms, ttft_count=count, ttft_sum_ns=int(sum_ms * MS), **said)


def wait(sent_ms: float, first_ms: float, rtt_ms: float = 20) -> Wait:
    return Wait(sent_at_ns=int(sent_ms * MS), first_at_ns=int(first_ms * MS), rtt_ns=int(rtt_ms * MS))


def kinds(readings: list[ServingResult], waits: list[Wait]) -> list[str]:
    return [one.kind for one in disagreements(readings, waits)]


def test_a_wait_is_the_ttft_without_the_round_trip() -> None:
    """From the start of the upload, which comes after the hand-shakes; without an RTT or a token there is none."""
    made = InferenceResult(
        **{**HEADER, "started_at_ns": 1000 * MS},
        model="m",
        outcome="ok",
        connection="cold",
        dns_ns=5 * MS,
        tcp_ns=20 * MS,
        tls_ns=25 * MS,
        ttft_ns=300 * MS,
        tcp_min_rtt_ns=20 * MS,
    )
    found = wait_of(made)
    assert found == wait(1050, 1350)
    assert found is not None
    assert found.machine_ns == 280 * MS


def test_the_server_accounts_for_less_than_was_waited() -> None:
    """Two requests of 280 ms each against 100 ms in all: 560 is more than 100 + 2 x (50 + 28)."""
    waits = [wait(100, 400), wait(100, 400)]
    (one,) = disagreements([counted(0, 7, 900), counted(600, 9, 1000)], waits)
    assert (one.kind, one.claim, one.seen) == ("unaccounted", 100 * MS, 560 * MS)
    # 404 ms are within the tolerance; 403 are not.
    assert kinds([counted(0, 7, 900), counted(600, 9, 1304.1)], waits) == []
    assert kinds([counted(0, 7, 900), counted(600, 9, 1303.9)], waits) == ["unaccounted"]


def test_others_requests_may_have_waited_too() -> None:
    """Where the server counted more than ours, its sum may be larger, and is not overstated."""
    waits = [wait(100, 400)]
    assert kinds([counted(0, 0, 0), counted(600, 3, 90_000)], waits) == []
    assert kinds([counted(0, 0, 0), counted(600, 1, 90_000)], waits) == ["overstated"]
    assert kinds([counted(0, 0, 0), counted(600, 3, 20)], waits) == ["unaccounted"]


def test_a_server_that_did_not_count_us() -> None:
    """Fewer answered than we had answers: somebody else answered."""
    (one,) = disagreements([counted(0, 5, 10), counted(600, 6, 20)], [wait(100, 200), wait(100, 250)])
    assert (one.kind, one.claim, one.seen) == ("uncounted", 1, 2)


def test_queue_and_prefill_where_there_is_no_ttft() -> None:
    """Their sum is the server's wait."""
    before = reading(0, queue_count=0, queue_sum_ns=0, prefill_count=0, prefill_sum_ns=0)
    after = reading(600, queue_count=1, queue_sum_ns=100 * MS, prefill_count=1, prefill_sum_ns=150 * MS)
    assert kinds([before, after], [wait(100, 370)]) == []  # 250 ms of machine, 250 told
    assert kinds([before, after], [wait(100, 600)]) == ["unaccounted"]


def test_a_server_that_says_it_is_idle_while_we_wait() -> None:
    """At 500 ms two requests had been with it for 400 ms; it said one, then none."""
    waits = [wait(80, 1000), wait(80, 1000)]
    assert kinds([reading(500, requests_running=1, requests_waiting=1)], waits) == []
    (one,) = disagreements([reading(500, requests_running=1, requests_waiting=0)], waits)
    assert (one.kind, one.claim, one.seen) == ("absent", 1, 2)
    # Too early or too late to be sure that it had them: nothing is said.
    assert kinds([reading(at, requests_running=0, requests_waiting=0) for at in (0, 120, 940, 1100)], waits) == []
    assert kinds([reading(500, requests_running=0, requests_waiting=None)], waits) == []


@pytest.mark.parametrize(
    "later", [{"server_started_at_ns": 5}, {"ttft_count": 3}, {"ttft_sum_ns": 5 * MS}, {"ttft_count": None, "ttft_sum_ns": None}]
)
def test_a_server_that_began_anew_is_not_judged_by_its_counters(later: dict[str, Any]) -> None:
    """Another life, counters that went back, or none any more."""
    before = counted(0, 7, 900, server_started_at_ns=1)
    after = reading(600, **{"ttft_count": 9, "ttft_sum_ns": 901 * MS, "server_started_at_ns": 1, **later})
    assert kinds([before, after], [wait(100, 400)]) == []
    assert kinds([], [wait(100, 400)]) == []


@given(
    waits=st.lists(st.tuples(st.floats(0, 500), st.floats(0, 5000), st.floats(0.1, 300)), min_size=1, max_size=20),
    others=st.integers(0, 50),
    errors=st.lists(st.floats(-1, 1), min_size=20, max_size=20),
)
def test_a_server_that_tells_the_truth_is_never_accused(waits: list[tuple[float, float, float]], others: int, errors: list[float]) -> None:
    """Its counters right to within the tolerance, others' requests among them, its gauges never below what it has."""
    asked = [wait(10 + sent, 10 + sent + machine + rtt, rtt) for sent, machine, rtt in waits]
    end_ms = max(one.first_at_ns for one in asked) / MS + 1
    told_ns = sum(max(0, one.machine_ns + int(error * TOLERANCE_NS)) for one, error in zip(asked, errors, strict=False))
    after = counted(end_ms, len(asked) + others, told_ns / MS + 40 * others)
    there = [reading(at, requests_running=len(asked), requests_waiting=others) for at in (20, 300, 900)]
    assert kinds([counted(0, 0, 0), *there, after], asked) == []
