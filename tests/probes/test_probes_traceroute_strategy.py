"""The rules of one trace, played against paths described in the test, under simulated time."""

import heapq
import itertools
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.traceroute.strategy import FIRST_WINDOW, GAP_LIMIT, HopAnswer, Trace

MS = 1_000_000
SECOND = 1_000 * MS


@dataclass
class Path:
    """A path as a table: RTT in ms by TTL (None: silent), the last one being the target. `loses`: (TTL, nth packet)."""

    rtts_ms: list[float | None]
    target_silent: bool = False
    unreachable_at: int | None = None
    loses: set[tuple[int, int]] = field(default_factory=set)
    asked: list[int] = field(default_factory=list)

    def answer(self, ttl: int) -> HopAnswer | None:
        self.asked.append(ttl)
        if (ttl, self.asked.count(ttl)) in self.loses:
            return None
        distance = len(self.rtts_ms)
        if self.unreachable_at is not None and ttl >= self.unreachable_at:
            rtt_ms = self.rtts_ms[self.unreachable_at - 1]
            return HopAnswer(address=f"r{self.unreachable_at}", rtt_ns=int(rtt_ms * MS), ts_source="kernel_txrx", is_end=True)
        at = min(ttl, distance)
        rtt_ms = self.rtts_ms[at - 1]
        if rtt_ms is None or (at == distance and self.target_silent):
            return None
        return HopAnswer(
            address="target" if at == distance else f"r{at}", rtt_ns=int(rtt_ms * MS), ts_source="kernel_txrx", is_target=at == distance
        )


def play(path, trace, shuffle=None):
    """Run a trace over a path; packets leave in the order of `shuffle`. Gives the time it took, ns."""
    now_ns, serial = 0, itertools.count()
    coming: list[tuple[int, int, int, HopAnswer]] = []
    for _ in range(10_000):
        wanted = trace.wanted(now_ns)
        if shuffle is not None:
            shuffle.shuffle(wanted)
        for ttl in wanted:
            if not trace.is_wanted(ttl):
                trace.skipped(ttl)
                continue
            trace.sent(ttl, now_ns)
            answer = path.answer(ttl)
            if answer is not None:
                heapq.heappush(coming, (now_ns + answer.rtt_ns, next(serial), ttl, answer))
        if trace.done(now_ns):
            return now_ns
        times = [at_ns for at_ns in (trace.next_ns(now_ns), coming[0][0] if coming else None) if at_ns is not None]
        assert times, "a trace that is not done has something to wait for"
        assert min(times) > now_ns or coming, "waiting makes progress"
        now_ns = max(now_ns, min(times))
        while coming and coming[0][0] <= now_ns:
            _, _, ttl, answer = heapq.heappop(coming)
            trace.answered(ttl, answer)
    raise AssertionError("the trace never ends")


def trace(**more):
    return Trace(**{"max_ttl": 30, "timeout_ns": SECOND, "attempts": 2, **more})


def addresses(run):
    return [hop.address for hop in run.hops()]


def test_a_clean_path_takes_one_round_trip():
    """All TTLs are in flight at once: the slowest hop decides, nobody is asked twice, the target is the last hop."""
    path, run = Path([1, 5, 10, 20]), trace()
    assert play(path, run) == 20 * MS
    assert addresses(run) == ["r1", "r2", "r3", "target"]
    assert run.reached
    assert sorted(path.asked) == list(range(1, FIRST_WINDOW + 1))


def test_a_known_distance_sends_nothing_behind_the_target():
    """The round before found 4 hops: 4 packets."""
    path, run = Path([1, 5, 10, 20]), trace(last_distance=4)
    play(path, run)
    assert sorted(path.asked) == [1, 2, 3, 4]


def test_a_path_that_grew_is_followed():
    """Six hops where there were four: the edge answers as a router, so the window grows."""
    path, run = Path([1, 2, 3, 4, 5, 6]), trace(last_distance=4)
    play(path, run)
    assert addresses(run) == ["r1", "r2", "r3", "r4", "r5", "target"]


@pytest.mark.parametrize("distance", [1, 3, GAP_LIMIT - 1])
def test_a_path_that_grew_behind_silent_routers_is_followed(distance):
    """The round before found it so near; now it is four hops farther, and silent up to where it was: fewer than a gap are no end."""
    path, run = Path([*[None] * distance, 5, 6, 7, 8]), trace(last_distance=distance)
    play(path, run)
    assert addresses(run) == [*[None] * distance, *(f"r{distance + n}" for n in (1, 2, 3)), "target"]


def test_a_gap_behind_the_known_distance_is_still_an_end():
    """As many silent TTLs as the gap limit: the window does not grow."""
    path, run = Path([None] * 12, target_silent=True), trace(last_distance=GAP_LIMIT)
    play(path, run)
    assert max(path.asked) == GAP_LIMIT


def test_a_path_that_shrank_ends_at_the_target():
    """Three hops where there were six: TTLs behind the target are not part of the path."""
    run = trace(last_distance=6)
    play(Path([1, 2, 3]), run)
    assert addresses(run) == ["r1", "r2", "target"]


def test_a_silent_hop_is_kept_and_asked_again_soon():
    """Hop 2 never answers: it is in the path with no address, asked twice, after patience and not after the time-out."""
    path, run = Path([1, None, 10, 20]), trace()
    took_ns = play(path, run)
    assert addresses(run) == ["r1", None, "r3", "target"]
    silent = run.hops()[1]
    assert (silent.probes, silent.replies, silent.rtt_ns) == (2, 0, None)
    assert took_ns == 500 * MS, "twice the least patience of 250 ms"


def test_patience_grows_with_the_rtt_of_the_path():
    """A path of 200 ms: a silent hop is given three times that, twice."""
    run = trace()
    assert play(Path([1, None, 200]), run) == 2 * 600 * MS


def test_a_lost_packet_is_asked_again():
    """The first packet to hop 3 is lost: the second is answered; both are on record."""
    run = trace()
    play(Path([1, 2, 3, 4], loses={(3, 1)}), run)
    assert [(hop.address, hop.probes, hop.replies) for hop in run.hops()][2] == ("r3", 2, 1)


def test_when_the_targets_first_answer_is_lost_the_distance_is_still_right():
    """TTL 4's answer is lost and TTL 5's is not: asked again, TTL 4 turns out to be the target."""
    run = trace()
    play(Path([1, 2, 3, 4], loses={(4, 1)}), run)
    assert addresses(run) == ["r1", "r2", "r3", "target"]


def test_a_silent_target_ends_by_the_gap_rule():
    """Routers answer up to 3, then nothing: every TTL of the window is asked twice, the window does not grow."""
    path, run = Path([1, 2, 3, 4], target_silent=True), trace()
    play(path, run)
    assert not run.reached
    assert addresses(run) == ["r1", "r2", "r3"] + [None] * (FIRST_WINDOW - 3)
    assert max(path.asked) == FIRST_WINDOW
    assert FIRST_WINDOW - 3 > GAP_LIMIT


def test_a_far_target_is_not_given_up_for_near_routers_sake():
    """Router 1 answers in 1 ms, the target in 900: with no end known yet the full time-out of 1 s holds."""
    run = trace()
    play(Path([1, None, None, 900]), run)
    assert addresses(run) == ["r1", None, None, "target"]
    assert run.reached


def test_a_long_path_grows_the_window():
    """Twenty hops, more than the first window."""
    run = trace()
    play(Path([float(n) for n in range(1, 21)]), run)
    assert len(addresses(run)) == 20
    assert run.reached


def test_max_ttl_is_never_passed():
    """Twenty hops and max_ttl 10: ten hops, not reached."""
    path, run = Path([float(n) for n in range(1, 21)]), trace(max_ttl=10)
    play(path, run)
    assert (len(addresses(run)), run.reached, max(path.asked)) == (10, False, 10)


def test_an_unreachable_error_ends_the_path_there():
    """Router 3 says host unreachable to every TTL from 3 on: the path has three hops and is not reached."""
    run = trace()
    play(Path([1, 2, 3, 4, 5], unreachable_at=3), run)
    assert (addresses(run), run.reached) == (["r1", "r2", "r3"], False)


def test_the_targets_own_answer_overrules_an_unreachable_error():
    """A passing error at TTL 2 while the target answers at 3: the target is the end."""
    run = trace(last_distance=3)
    for ttl in run.wanted(0):
        run.sent(ttl, 0)
    error = HopAnswer(address="r2", rtt_ns=MS, ts_source="user", is_end=True)
    target = HopAnswer(address="target", rtt_ns=MS, ts_source="user", is_target=True)
    run.answered(2, error)
    assert run.end == 2
    run.answered(3, target)
    assert (run.end, run.reached) == (3, True)


def test_an_answer_after_the_time_out_does_not_count():
    """2 s with a time-out of 1 s: silent."""
    run = trace(last_distance=1)
    run.wanted(0)
    run.sent(1, 0)
    run.answered(1, HopAnswer(address="r1", rtt_ns=2 * SECOND, ts_source="user"))
    assert addresses(run) == [None]


def test_a_refusal_of_our_own_kernel_ends_the_trace():
    """No route: done at once, and no hop is made up."""
    run = trace()
    run.wanted(0)
    run.refused()
    assert run.done(0)
    assert run.hops() == ()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.floats(0.1, 900)), min_size=1, max_size=25),
    st.booleans(),
    st.sets(st.tuples(st.integers(1, 25), st.integers(1, 2)), max_size=6),
    st.integers(1, 3),
    st.one_of(st.none(), st.integers(1, 30)),
    st.integers(0, 2**32),
)
def test_every_trace_ends_within_its_limits(rtts_ms, target_silent, loses, attempts, last_distance, seed):
    """Whatever path and losses: it ends, asks no TTL more than `attempts` times, names no false hop, skips no TTL."""
    path = Path(rtts_ms, target_silent=target_silent, loses=loses)
    run = trace(attempts=attempts, last_distance=last_distance)
    play(path, run, random.Random(seed))
    hops = run.hops()
    assert [hop.ttl for hop in hops] == list(range(1, len(hops) + 1))
    assert len(hops) <= 30
    for hop in hops:
        assert path.asked.count(hop.ttl) == hop.probes <= attempts
        truth = "target" if hop.ttl >= len(rtts_ms) else f"r{hop.ttl}"
        assert hop.address in {None, truth}
    assert [hop.address for hop in hops].count("target") == run.reached
    if run.reached:
        assert hops[-1].address == "target"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.floats(0.1, 900)), min_size=1, max_size=40),
    st.booleans(),
    st.one_of(st.none(), st.integers(1, 40)),
    st.integers(1, 3),
    st.one_of(st.none(), st.integers(1, 30)),
    st.integers(0, 2**32),
)
def test_no_trace_sends_more_than_it_is_charged(rtts_ms, target_silent, unreachable_at, attempts, last_distance, seed):
    """Nine silent TTLs of ten are routers behind a limit, the window grows again and again: `max_ttl` times `attempts` packets at most."""
    if unreachable_at is not None and (unreachable_at > len(rtts_ms) or rtts_ms[unreachable_at - 1] is None):
        unreachable_at = None
    path = Path(rtts_ms, target_silent=target_silent, unreachable_at=unreachable_at)
    run = trace(attempts=attempts, last_distance=last_distance, limited=lambda ttl, _before: (ttl + seed) % 10 > 0)
    play(path, run, random.Random(seed))
    assert len(path.asked) <= 30 * attempts


def test_routers_behind_a_limit_take_nothing_from_hops_that_are_not_asked_yet():
    """Every other router of 29 is silent and may be behind a limit, at one attempt each: all 30 TTLs are asked, and the target found."""
    path = Path([10.0 if ttl % 2 else None for ttl in range(1, 30)] + [10.0])
    run = trace(attempts=1, limited=lambda _ttl, _before: True)
    play(path, run)
    assert (run.reached, sorted(path.asked)) == (True, list(range(1, 31)))


def test_what_the_path_leaves_is_for_routers_behind_a_limit():
    """Three hops, the second heard of at its fourth packet only: with the end known all that is charged may be used for it."""
    path, run = Path([1, 2, 3], loses={(2, 1), (2, 2), (2, 3)}), trace(limited=lambda ttl, _before: ttl == 2)
    play(path, run)
    assert [(hop.address, hop.probes) for hop in run.hops()] == [("r1", 1), ("r2", 4), ("target", 1)]


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_a_path_without_loss_is_found_whole_in_any_order(attempts):
    """Twelve answering hops in 50 random orders: always all twelve."""
    for seed in range(50):
        run = trace(attempts=attempts)
        play(Path([2.0 * n for n in range(1, 13)]), run, random.Random(seed))
        assert addresses(run) == [*(f"r{n}" for n in range(1, 12)), "target"]
