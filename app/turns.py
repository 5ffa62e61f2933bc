"""Who goes first: a click, before what a page refreshes by itself.

All sessions share one interpreter. With a hundred pages open their live parts take two fifths of it, and who clicks waits as much longer.
What refreshes by itself has no one waiting for it: it lets clicks go first, for a moment.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Turns", "click", "give_way"]

#: What refreshes by itself is not late by more than this, whoever clicks.
_MOST_S = 0.5


class Turns:
    """Clicks that are being answered, and those who let them go first; for any number of threads."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._clicks = 0
        self._own = threading.local()

    @contextmanager
    def click(self) -> Iterator[None]:
        """While a click is answered."""
        with self._change:
            self._clicks += 1
        self._own.clicks = getattr(self._own, "clicks", 0) + 1
        try:
            yield
        finally:
            self._own.clicks -= 1
            with self._change:
                self._clicks -= 1
                if not self._clicks:
                    self._change.notify_all()

    def give_way(self, most_s: float = _MOST_S) -> bool:
        """Wait while clicks are answered, `most_s` at most; not at all within a click of one's own. Whether none is answered now."""
        if getattr(self._own, "clicks", 0):
            return True
        with self._change:
            return self._change.wait_for(lambda: not self._clicks, timeout=most_s)


_SERVER = Turns()
click, give_way = _SERVER.click, _SERVER.give_way
