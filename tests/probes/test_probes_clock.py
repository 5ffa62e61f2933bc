"""A wall clock that is set under our feet: seen, and lines dated by it brought into one order. The clocks are handed in."""

from __future__ import annotations

import dataclasses
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes import clock
from probes.clock import ClockSteps, Dating, wall_offset_ns
from records.batch import Line
from records.dating import began_ns
from records.measurement import PingResult, PingSample
from records.units import SECOND

#: When the host came up, by a right clock, in Unix time.
BOOTED_NS = 1_790_000_000 * SECOND


class Host:
    """A host's two clocks: the time since boot, and how far the wall clock is from the truth."""

    def __init__(self) -> None:
        self.up_ns = 100 * SECOND
        self.wrong_ns = 0

    def wall_ns(self) -> int:
        return BOOTED_NS + self.up_ns + self.wrong_ns

    def offset_ns(self) -> int:
        return BOOTED_NS + self.wrong_ns

    def ping(self) -> PingResult:
        """A round that begins now."""
        now = self.wall_ns()
        packet = PingSample(sequence=0, outcome="timeout", sent_at_ns=now + 5, rtt_ns=None, ts_source=None, sched_lag_ns=None)
        return PingResult(
            id="aa-1",
            agent="sin-1",
            src="sin",
            dst="fra",
            medium="internet",
            target="192.0.2.1",
            started_at_ns=now,
            engine="test/1",
            method="icmp",
            timeout_ns=SECOND,
            samples=(packet,),
        )


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    monkeypatch.setattr(clock, "wall_offset_ns", made.offset_ns)
    monkeypatch.setattr(clock, "wall_clock_ns", made.wall_ns)
    return made


def with_packets(host: Host, count: int, every_s: int, step_ns: int, before: int) -> PingResult:
    """A round of packets, the clock being set after some of them."""
    line, packets = host.ping(), []
    for n in range(count):
        if n == before:
            host.wrong_ns += step_ns
        packets.append(PingSample(sequence=n, outcome="timeout", sent_at_ns=host.wall_ns()))
        host.up_ns += every_s * SECOND
    return dataclasses.replace(line, samples=tuple(packets))


def errors_ns(lines: list[Line], true_ns: list[int], host: Host) -> list[int]:
    """How far lines are from the truth by the clock as it is now."""
    return [began_ns(line) - host.wrong_ns - true for line, true in zip(lines, true_ns, strict=True)]


def test_the_offset_is_of_the_real_clocks() -> None:
    """The wall clock less the time since boot."""
    before = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert abs(wall_offset_ns() - before) < SECOND


def test_a_step_is_told_once(host: Host) -> None:
    """Forwards and back; time that passes is none."""
    steps = ClockSteps()
    host.up_ns += 50 * SECOND
    assert steps.take_ns() == 0
    host.wrong_ns = 3600 * SECOND
    assert steps.take_ns() == 3600 * SECOND
    host.wrong_ns = 0
    assert [steps.take_ns(), steps.take_ns()] == [-3600 * SECOND, 0]


@pytest.mark.parametrize("step_s", [3600, -3600, 86_400 * 365, -700, 700])
def test_a_round_under_way_is_dated_by_the_clock_as_it_is_now(host: Host, step_s: int) -> None:
    """It began by the old clock and is written down under the new one; one that begins later is left as it is."""
    dating = Dating()
    old, began = host.ping(), host.wall_ns()
    host.up_ns += 2 * SECOND
    host.wrong_ns += step_s * SECOND
    new, later = host.ping(), host.wall_ns() - host.wrong_ns
    host.up_ns += SECOND
    found = dating.dated([old, new])
    assert errors_ns(found, [began, later], host) == [0, 0]
    assert dating.wall_offset_ns == host.offset_ns()
    assert isinstance(found[0], PingResult)
    assert found[0].samples[0].sent_at_ns - found[0].started_at_ns == 5
    # A second one that ends later still, after others.
    assert errors_ns(dating.dated([old]), [began], host) == [0]


@pytest.mark.parametrize("step_s", [3600, -3600])
def test_packets_of_one_round_by_two_settings_of_the_clock(host: Host, step_s: int) -> None:
    """Those before it was set are moved, those after it are not: a second apart, all of them."""
    dating = Dating()
    line = with_packets(host, 6, 1, step_s * SECOND, before=3)
    (found,) = dating.dated([line])
    assert isinstance(found, PingResult)
    assert [packet.sent_at_ns - found.started_at_ns for packet in found.samples] == [n * SECOND for n in range(6)]
    assert found.samples[-1].sent_at_ns == host.wall_ns() - SECOND


@given(st.lists(st.tuples(st.integers(-30, 30), st.integers(1, 590)), min_size=1, max_size=8))
def test_whatever_is_done_to_the_clock_lines_agree_with_it(steps: list[tuple[int, int]]) -> None:
    """Steps of 20 minutes and more, rounds of up to ten minutes: each line is right by the clock under which it is written down."""
    host = Host()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "wall_offset_ns", host.offset_ns)
        patch.setattr(clock, "wall_clock_ns", host.wall_ns)
        dating = Dating()
        for step, took_s in steps:
            line, began = host.ping(), host.wall_ns() - host.wrong_ns
            host.up_ns += took_s * SECOND
            host.wrong_ns += 1200 * step * SECOND
            assert errors_ns(dating.dated([line]), [began], host) == [0]


def test_a_clock_that_is_slewed_changes_nothing(host: Host) -> None:
    """A minute, bit by bit."""
    dating = Dating()
    for _ in range(60):
        line = host.ping()
        host.up_ns += 300 * SECOND
        host.wrong_ns += SECOND
        assert dating.dated([line]) == [line]
