"""What all sessions look at: read ahead while somebody looks, never older than it must be, and an error is for who asks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from app import data, picture, text
from app.current import Current
from records.errors import OutsideError


@dataclass(frozen=True)
class At:
    """A snapshot, and when it was looked at."""

    place: str
    snapshot: int
    now: float


class World:
    """A clock, a warehouse whose snapshots grow with it, and what was read of it."""

    def __init__(self) -> None:
        self.time_s = 0.0
        self.reads: list[str] = []
        self.prepared: list[tuple[At, str]] = []
        self.is_broken = False
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def read(self, place: str) -> At:
        self.reads.append(place)
        if self.is_broken:
            raise OutsideError("the warehouse does not answer")
        return At(place, int(self.time_s), self.time_s)

    def prepare(self, at: At, window: str) -> None:
        self.prepared.append((at, window))
        self.begun.set()
        assert self.go_on.wait(30)

    def current(self, **settings: float) -> Current[At]:
        return Current(self.read, self.prepare, tick_s=settings.get("tick_s", 5.0), clock=lambda: self.time_s)


@pytest.fixture
def world() -> World:
    return World()


def test_without_a_thread_whoever_asks_reads(world: World) -> None:
    current = world.current()
    assert current.of("a").snapshot == 0
    world.time_s = 1
    assert current.of("a").snapshot == 1
    assert world.reads == ["a", "a"]


class Resting(Current[At]):
    """Says each time when its thread has read."""

    def __init__(self, world: World, tick_s: float = 3600.0) -> None:
        super().__init__(world.read, world.prepare, tick_s=tick_s, clock=lambda: world.time_s)
        self.rests = threading.Event()

    def refresh(self) -> float:
        took_s = super().refresh()
        self.rests.set()
        return took_s


@pytest.fixture
def current(world: World) -> Iterator[Resting]:
    """With its thread begun, which does nothing more by itself within a test: the tick is an hour."""
    current = Resting(world)
    current.begin()
    assert current.rests.wait(30)
    yield current
    current.end()


def test_sessions_see_the_snapshot_of_before_until_the_next_is_prepared(world: World) -> None:
    """A tick of ten seconds, and a reading that takes eighty: nobody waits for it, nobody sees what is half read."""
    current = Resting(world, tick_s=10.0)
    current.begin()
    assert current.rests.wait(30)
    before = current.of("a")
    current.looked("a", "1h")
    world.go_on.clear()
    world.time_s = 20.5
    reading = threading.Thread(target=current.refresh)
    reading.start()
    try:
        assert world.begun.wait(30)
        world.time_s = 100.0
        assert current.of("a") is before
    finally:
        world.go_on.set()
        reading.join(30)
    assert current.of("a").now == 20.5
    current.end()
    assert {window for _, window in world.prepared} == {"1h"}


def test_only_what_is_watched_is_read(world: World, current: Resting) -> None:
    current.of("a")
    current.of("b")
    current.looked("a", "1h")
    world.time_s = 50
    current.of("b")
    current.looked("b", "7d")
    world.reads.clear()
    world.time_s = 70
    current.refresh()
    assert world.reads == ["b"]
    assert [(at.place, window) for at, window in world.prepared] == [("b", "7d")]
    assert current.of("b").snapshot == 70
    assert current.of("a").snapshot == 0  # of long ago, and within two ticks of an hour


def test_what_nobody_looked_at_for_long_is_read_by_who_comes(world: World, current: Resting) -> None:
    current.of("a")
    world.time_s = 3 * 3600 + 1
    assert current.of("a").snapshot == world.time_s


def test_an_error_is_for_who_asks(world: World, current: Resting) -> None:
    current.of("a")
    world.is_broken = True
    current.refresh()
    with pytest.raises(OutsideError, match="does not answer"):
        current.of("a")
    world.is_broken = False
    assert current.of("a").snapshot == 0


def test_nothing_goes_back_in_time(world: World, current: Resting) -> None:
    world.time_s = 9
    newest = current.of("a")
    current._put("a", At("a", 8, 8.0), 1.0)
    assert current.of("a") is newest


def test_the_age_that_is_told_is_that_of_what_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that was read forty seconds ago, its newest sample a second before: 41 s old, not one."""
    moment = datetime.now(UTC) - timedelta(seconds=40)
    monkeypatch.setattr(data, "newest", lambda _: moment - timedelta(seconds=1))
    name, value, remark, is_alert = picture._newest(data.Source("kept", 7, moment))
    assert (name, remark, is_alert) == ("Newest sample", text.clock(moment - timedelta(seconds=1)), False)
    assert value in {text.age(41.0), text.age(42.0)}
