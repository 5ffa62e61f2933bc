"""What is asked ahead: in which order, instead of what, and what an error does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from app.ahead import Ahead
from records.errors import NoAnswer


@pytest.fixture
def ahead() -> Iterator[Ahead]:
    one = Ahead(pause=0.0, quiet_s=0.0)
    yield one
    one.end()


class Asked:
    """Questions that say their names, and one that holds the thread until let go."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.begun, self.go_on, self.over = threading.Event(), threading.Event(), threading.Event()

    def called(self, name: str) -> Callable[[], object]:
        return lambda: self.names.append(name)

    def hold(self) -> None:
        self.begun.set()
        assert self.go_on.wait(30)

    def fail(self) -> None:
        raise NoAnswer("nobody is served")

    def break_down(self) -> None:
        raise ZeroDivisionError


def test_without_a_server_nothing_is_asked(ahead: Ahead) -> None:
    asked = Asked()
    ahead.soon("scenario", [asked.called("early")])
    ahead.begin()
    ahead.soon("scenario", [asked.called("late"), asked.over.set])
    assert asked.over.wait(30)
    assert asked.names == ["late"]


def test_the_page_drawn_last_comes_first_and_forgets_what_it_said_before(ahead: Ahead) -> None:
    asked = Asked()
    ahead.begin()
    ahead.soon("fleet", [asked.hold])
    assert asked.begun.wait(30)
    ahead.soon("scenario", [asked.called("old")])
    ahead.soon("isochrones", [asked.called("i1"), asked.called("i2")])
    ahead.soon("scenario", [asked.called("s1"), asked.called("s2")])
    ahead.soon("last", [asked.called("l"), asked.over.set])
    ahead.soon("isochrones", [asked.called("i3"), asked.called("i4")])
    ahead.soon("scenario", [asked.called("s3")])
    ahead.soon("first of all", [])
    asked.go_on.set()
    assert asked.over.wait(30)
    assert asked.names == ["s3", "i3", "i4", "l"]


def test_nothing_is_asked_while_pages_are_drawn() -> None:
    """An hour of quiet: what was said a moment ago is not asked, and the end does not wait for it."""
    asked, ahead = Asked(), Ahead(quiet_s=3600.0)
    ahead.begin()
    ahead.soon("scenario", [asked.called("early")])
    assert ahead.is_busy
    ahead.end()
    assert asked.names == []


def test_an_error_ends_one_question_only(ahead: Ahead) -> None:
    asked = Asked()
    ahead.begin()
    ahead.soon("scenario", [asked.fail, asked.break_down, asked.called("next"), asked.over.set])
    assert asked.over.wait(30)
    assert asked.names == ["next"]


def test_the_end_forgets_what_waits(ahead: Ahead) -> None:
    asked = Asked()
    ahead.begin()
    ahead.soon("scenario", [asked.hold, asked.called("never")])
    assert asked.begun.wait(30)
    ending = threading.Thread(target=ahead.end)
    ending.start()
    asked.go_on.set()
    ending.join(30)
    assert not ending.is_alive()
    assert asked.names == []
