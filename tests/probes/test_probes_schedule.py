"""The schedule: phases from a hash, late rounds skipped and never caught up."""

from collections import Counter
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.schedule import MAX_GRACE_NS, Job, Schedule, first_due_ns, jitter_ns, phase_ns
from records.units import MS, SECOND

MINUTE = 60 * SECOND
names = st.text(min_size=1, max_size=12)
intervals = st.integers(1, 3600 * SECOND)


def job(site: str = "fra", kind: str = "ping", interval_ns: int = MINUTE) -> Job:
    return Job(site=site, medium="internet", kind=kind, interval_ns=interval_ns)


def test_phase_is_pinned_by_its_definition() -> None:
    """The phase is the 128-bit blake2b of the length-prefixed fields mod interval: a change would move the whole fleet."""
    raw = b"".join(len(part).to_bytes(4, "big") + part for part in (b"sin-1", b"fra", b"internet", b"ping"))
    expected = int.from_bytes(blake2b(raw, digest_size=16, person=b"isochrone-phase").digest(), "big") % MINUTE
    assert phase_ns("sin-1", "fra", "internet", "ping", MINUTE) == expected


def test_fields_do_not_run_into_each_other() -> None:
    """('ab', 'c') and ('a', 'bc') are different jobs and get different phases."""
    assert phase_ns("ab", "c", "internet", "ping", MINUTE) != phase_ns("a", "bc", "internet", "ping", MINUTE)


@given(names, names, intervals)
def test_phase_is_inside_the_interval(agent: str, site: str, interval: int) -> None:
    """0 <= phase < interval for any names and any interval."""
    assert 0 <= phase_ns(agent, site, "internet", "ping", interval) < interval


@given(st.integers(0, 2**62), intervals, st.data())
def test_first_due_is_the_first_congruent_time(now: int, interval: int, data: st.DataObject) -> None:
    """The first due time is at or after now, less than one interval away, and congruent to the phase."""
    phase = data.draw(st.integers(0, interval - 1))
    due = first_due_ns(now, interval, phase)
    assert now <= due < now + interval
    assert due % interval == phase


def test_a_whole_fleet_spreads_over_the_day() -> None:
    """350 agents pinging 40 targets every minute for 24 h: every second of the day carries its share, none is crowded."""
    per_second: Counter[int] = Counter()
    agents, targets = 350, 40
    for agent in range(agents):
        schedule = Schedule(f"pop-{agent}", [job(f"site-{target}") for target in range(targets)], 0)
        while (due := schedule.next_due_ns) is not None and due < MINUTE:
            for entry in schedule.due(due):
                per_second[entry.due_at_ns // SECOND] += 1
    assert sum(per_second.values()) == agents * targets
    # The day is 1440 times this minute, because phases are congruent (proved below); mean 233 a second, sigma 15.
    mean = agents * targets / 60
    assert max(per_second.values()) < mean + 6 * mean**0.5
    assert min(per_second.values()) > mean - 6 * mean**0.5


def test_one_agent_through_24_hours_of_a_fake_clock() -> None:
    """Every job runs exactly once an interval for 24 h, at its phase, and nothing is skipped."""
    jobs = [job(f"s{n}", kind, interval) for n in range(20) for kind, interval in (("ping", MINUTE), ("traceroute", 15 * MINUTE))]
    schedule = Schedule("sin-1", jobs, 0)
    starts: dict[Job, list[int]] = {entry: [] for entry in jobs}
    day = 24 * 60 * MINUTE
    while (now := schedule.next_due_ns) is not None and now < day:
        for entry in schedule.due(now):
            starts[entry.job].append(entry.due_at_ns)
    assert schedule.skipped_rounds == 0
    for entry, times in starts.items():
        phase = phase_ns("sin-1", entry.site, entry.medium, entry.kind, entry.interval_ns)
        assert times == list(range(phase, day, entry.interval_ns))


@given(st.sets(names, min_size=1, max_size=20), names)
def test_adding_a_target_moves_nobody(sites: set[str], newcomer: str) -> None:
    """The due times of the targets that were there are the same with one more target, wherever it is put in."""
    before = {entry.job.site: entry.due_at_ns for entry in _one_interval(sorted(sites))}
    after = {entry.job.site: entry.due_at_ns for entry in _one_interval([newcomer, *sorted(sites - {newcomer})])}
    assert {site: at for site, at in after.items() if site in sites} == before


def _one_interval(sites: list[str]) -> list:
    schedule = Schedule("sin-1", [job(site) for site in sites], 0)
    rounds = []
    while schedule.next_due_ns is not None and schedule.next_due_ns < MINUTE:
        rounds.extend(schedule.due(schedule.next_due_ns))
    return rounds


def test_rounds_missed_in_a_stall_are_skipped_and_counted() -> None:
    """After a stall over n due times at most one round starts (the last, if within its grace) and the rest are counted."""
    entry = job(interval_ns=10 * SECOND)
    schedule = Schedule("sin-1", [entry], 0)
    first = schedule.next_due_ns
    assert first is not None
    late = first + 5 * entry.interval_ns + 400 * MS
    assert [r.due_at_ns for r in schedule.due(late)] == [first + 5 * entry.interval_ns]
    assert schedule.skipped_rounds == 5
    # And the next stall ends past the grace: then nothing starts at all.
    later = first + 8 * entry.interval_ns + MAX_GRACE_NS + 1
    assert schedule.due(later) == ()
    assert schedule.skipped_rounds == 5 + 3
    assert schedule.next_due_ns == first + 9 * entry.interval_ns


@given(st.lists(st.integers(0, 40 * SECOND), min_size=1, max_size=60), st.integers(50 * MS, 20 * SECOND))
def test_started_and_skipped_rounds_are_all_there_were(steps: list[int], interval: int) -> None:
    """However the clock jumps forward: started + skipped = due, a round starts within its grace, and never twice."""
    entry = job(interval_ns=interval)
    schedule = Schedule("sin-1", [entry], 0)
    first = schedule.next_due_ns
    assert first is not None
    now, started = 0, []
    for step in steps:
        now += step
        for r in schedule.due(now):
            assert 0 <= now - r.due_at_ns <= entry.grace_ns
            started.append(r.due_at_ns)
    assert len(set(started)) == len(started)
    were_due = 0 if now < first else (now - first) // interval + 1
    assert len(started) + schedule.skipped_rounds == were_due


def test_the_same_job_twice_is_refused() -> None:
    """Two identical jobs would always fire together: that is a mistake of the caller."""
    with pytest.raises(ValueError, match="twice"):
        Schedule("sin-1", [job(), job()], 0)


def test_without_jobs_nothing_is_due() -> None:
    """An agent that only serves has an empty schedule."""
    schedule = Schedule("sin-1", [], 0)
    assert schedule.next_due_ns is None
    assert schedule.due(10**18) == ()
    assert len(schedule) == 0


@given(jitter=st.floats(0, 0.5), interval=st.integers(2, 20), steps=st.lists(st.integers(1, 30), min_size=1, max_size=40))
def test_with_jitter_every_round_is_due_where_its_definition_says(jitter: float, interval: int, steps: list[int]) -> None:
    """Against all due times written out: phase + n x interval + hash(n) mod (jitter x interval), each started once or skipped."""
    entry = job(interval_ns=interval * SECOND)
    schedule = Schedule("sin-1", [entry], 0, jitter=jitter)
    most = int(jitter * entry.interval_ns)
    phase = phase_ns("sin-1", entry.site, entry.medium, entry.kind, entry.interval_ns)
    grid = range(phase - entry.interval_ns, (sum(steps) + 2 * interval) * SECOND, entry.interval_ns)
    due = [at + jitter_ns("sin-1", entry.site, entry.medium, entry.kind, at // entry.interval_ns, most) for at in grid]
    assert all(0 <= late - at <= most for late, at in zip(due, grid, strict=True))
    now, started = 0, []
    for step in steps:
        now += step * SECOND
        started += [found.due_at_ns for found in schedule.due(now)]
    expected = [at for at in due if 0 <= at <= now]
    assert set(started) <= set(expected)
    assert len(started) + schedule.skipped_rounds == len(expected)
    assert schedule.next_due_ns == next(at for at in due if at > now)


def test_another_list_of_jobs_moves_only_what_changed() -> None:
    """A reload: what stays keeps its next round, what is new begins at its phase, what is gone never comes."""
    stays, changes, goes, comes = job("a"), job("b"), job("c"), job("d")
    schedule = Schedule("sin-1", [stays, changes, goes], 0, jitter=0.1)
    alone = Schedule("sin-1", [stays], 0, jitter=0.1)
    now = 0
    for now in range(0, 100 * SECOND, SECOND // 2):
        schedule.due(now)
        alone.due(now)
    slower = Job(site="b", medium="internet", kind="ping", interval_ns=changes.interval_ns * 3)
    schedule.update([comes, slower, stays], now)
    sites: dict[str, list[int]] = {}
    for now in range(100 * SECOND, 400 * SECOND, SECOND // 2):
        for found in schedule.due(now):
            sites.setdefault(found.job.site, []).append(found.due_at_ns)
        sites.setdefault("alone", []).extend(found.due_at_ns for found in alone.due(now))
    assert sites.keys() == {"a", "b", "d", "alone"}
    assert sites["a"] == sites["alone"]
    assert len(schedule) == 3
    assert abs(len(sites["b"]) - 300 * SECOND // slower.interval_ns) <= 1
    assert schedule.skipped_rounds == 0


def test_a_retimed_job_comes_at_its_new_pace_within_it() -> None:
    """Faster: the next round is within the new interval; the same pace again, or an unknown job, changes nothing."""
    entry = job(interval_ns=600 * SECOND)
    schedule = Schedule("sin-1", [entry], 0)
    assert schedule.retime(entry.key, 2 * SECOND, 50 * SECOND)
    assert schedule.next_due_ns is not None
    assert 50 * SECOND <= schedule.next_due_ns < 52 * SECOND
    assert not schedule.retime(entry.key, 2 * SECOND, 50 * SECOND)
    assert not schedule.retime(("x", "internet", "ping"), SECOND, 50 * SECOND)
    assert schedule.retime(entry.key, 600 * SECOND, 60 * SECOND)
    phase = phase_ns("sin-1", entry.site, entry.medium, entry.kind, 600 * SECOND)
    assert schedule.next_due_ns % (600 * SECOND) == phase
    for now in range(60 * SECOND, 5000 * SECOND, SECOND):
        schedule.due(now)
    assert schedule.skipped_rounds == 0
