"""Scripted events: when they happen, whoever asks and however late."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.timeline import Event, Timeline
from records.errors import UserError

TIMES = st.integers(0, 60)


@st.composite
def events(draw: st.DrawFn) -> Event[int]:
    at = draw(TIMES)
    every = draw(st.none() | st.integers(1, 20))
    until = None if every is None else draw(st.none() | st.integers(at, 80))
    return Event(at_ns=at, every_ns=every, until_ns=until, action=draw(st.integers()))


def happens(script: list[Event[int]], end: int) -> list[tuple[int, int]]:
    """By definition: every time counted out one by one, then in order of time and of the script."""
    found = []
    for number, event in enumerate(script):
        for time in range(end + 1):
            late = time - event.at_ns
            repeats = (
                event.every_ns is not None
                and late > 0
                and late % event.every_ns == 0
                and (event.until_ns is None or time <= event.until_ns)
            )
            if late == 0 or repeats:
                found.append((time, number, event.action))
    return [(time, action) for time, _, action in sorted(found)]


@given(script=st.lists(events(), max_size=5), looks=st.lists(TIMES, max_size=8))
def test_everything_happens_once_and_in_order(script: list[Event[int]], looks: list[int]) -> None:
    """However often and late one looks, what was taken is every occurrence by then, once, in the order of their times."""
    timeline = Timeline(script)
    taken = []
    for now in sorted(looks):
        due = timeline.due_ns
        got = timeline.take(now)
        assert bool(got) == (due is not None and due <= now)
        taken += got
    assert taken == happens(script, max(looks, default=-1))


@given(script=st.lists(events(), max_size=5), now=TIMES, count=st.integers(0, 6))
def test_what_is_ahead_is_what_will_be_taken(script: list[Event[int]], now: int, count: int) -> None:
    """A look ahead takes nothing, and is what comes."""
    timeline = Timeline(script)
    timeline.take(now)
    assert timeline.ahead(count) == [found for found in happens(script, 400) if found[0] > now][:count]
    assert timeline.ahead(count) == timeline.ahead(count)


def test_a_script_added_later_counts_from_then() -> None:
    """Times and ends of a script that is played count from the moment it is added; at one time the older goes first."""
    timeline = Timeline([Event(at_ns=110, action="lab's own")])
    timeline.add([Event(at_ns=10, every_ns=5, until_ns=20, action="played")], start_ns=100)
    assert timeline.take(1000) == [(110, "lab's own"), (110, "played"), (115, "played"), (120, "played")]
    assert timeline.due_ns is None


@pytest.mark.parametrize(
    "times", [{"at_ns": -1}, {"at_ns": 0, "every_ns": 0}, {"at_ns": 5, "every_ns": 1, "until_ns": 4}, {"at_ns": 0, "until_ns": 4}]
)
def test_times_that_do_not_hold_are_refused(times: dict[str, int]) -> None:
    """Before the start, at no interval, an end before the beginning, an end of what does not repeat."""
    with pytest.raises(UserError, match="event"):
        Event(action=None, **times)
