"""What all sessions look at: read ahead while somebody looks, never older than it must be, and an error is for who asks."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest

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


def test_sessions_see_the_snapshot_of_before_until_the_next_is_prepared(world: World) -> None:
    current = world.current(tick_s=0.01)
    current.begin()
    try:
        first = current.of("a")
        current.looked("a", "1h")
        world.go_on.clear()
        world.time_s = 0.02
        assert world.begun.wait(30)
        # It is being read: nobody waits, nobody sees it.
        assert current.of("a") is first
        world.go_on.set()
        for _ in range(3000):
            if current.of("a") is not first:
                break
            threading.Event().wait(0.01)
        assert current.of("a").now == 0.02
        assert {window for _, window in world.prepared} == {"1h"}
    finally:
        world.go_on.set()
        current.end()


class Resting(Current[At]):
    """Says when its thread has read for the first time."""

    def __init__(self, world: World) -> None:
        super().__init__(world.read, world.prepare, tick_s=3600.0, clock=lambda: world.time_s)
        self.rests = threading.Event()

    def refresh(self) -> float:
        took_s = super().refresh()
        self.rests.set()
        return took_s


def begun(world: World) -> Current[At]:
    """With the thread begun, which does nothing more by itself within a test: the tick is an hour."""
    current = Resting(world)
    current.begin()
    assert current.rests.wait(30)
    return current


def test_only_what_is_watched_is_read(world: World) -> None:
    current = begun(world)
    try:
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
        assert current.of("a").snapshot == 0  # of long ago, and within three ticks of an hour
    finally:
        current.end()


def test_what_nobody_looked_at_for_long_is_read_by_who_comes(world: World) -> None:
    current = begun(world)
    try:
        current.of("a")
        world.time_s = 3 * 3600 + 1
        assert current.of("a").snapshot == world.time_s
    finally:
        current.end()


def test_an_error_is_for_who_asks(world: World) -> None:
    current = begun(world)
    try:
        current.of("a")
        world.is_broken = True
        current.refresh()
        with pytest.raises(OutsideError, match="does not answer"):
            current.of("a")
        world.is_broken = False
        assert current.of("a").snapshot == 0
    finally:
        current.end()


def test_nothing_goes_back_in_time(world: World) -> None:
    current = begun(world)
    try:
        world.time_s = 9
        newest = current.of("a")
        current._put("a", At("a", 8, 8.0), 1.0)
        assert current.of("a") is newest
    finally:
        current.end()
