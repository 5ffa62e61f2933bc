"""Clicks go first: what refreshes by itself waits for them, for a moment, and never for its own."""

from __future__ import annotations

import threading
import time

import pytest

from app.turns import Turns


def test_what_refreshes_waits_until_the_last_click_is_answered() -> None:
    """Two clicks are under way: it goes on after the second has ended, not after the first."""
    turns, order = Turns(), []
    first, second = turns.click(), turns.click()
    first.__enter__()
    second.__enter__()

    def refresh() -> None:
        turns.give_way(30.0)
        order.append("refresh")

    thread = threading.Thread(target=refresh)
    thread.start()
    first.__exit__(None, None, None)
    thread.join(0.2)
    assert thread.is_alive()
    order.append("answered")
    second.__exit__(None, None, None)
    thread.join(30)
    assert order == ["answered", "refresh"]


def test_it_waits_for_a_moment_only() -> None:
    """Whoever clicks for long holds nothing up: after its time it goes on all the same, and says that it did."""
    turns, begun, held = Turns(), threading.Event(), threading.Event()

    def click() -> None:
        with turns.click():
            begun.set()
            held.wait(30)

    thread = threading.Thread(target=click)
    thread.start()
    assert begun.wait(30)
    began = time.monotonic()
    assert not turns.give_way(0.05)
    assert time.monotonic() - began >= 0.05
    held.set()
    thread.join(30)
    assert turns.give_way(0.0)


def test_a_click_does_not_wait_for_itself() -> None:
    """The live part of a page is drawn within the click that opened it; a click that fails is over too."""
    turns = Turns()

    def fail() -> None:
        with turns.click():
            began = time.monotonic()
            assert turns.give_way(30.0)
            assert time.monotonic() - began < 10
            raise RuntimeError

    with pytest.raises(RuntimeError), turns.click():
        fail()
    assert turns.give_way(0.0)
