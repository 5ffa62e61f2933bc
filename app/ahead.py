"""Work out, while nobody waits, what a visitor is likely to ask next: the other entries of the lists on the page that is open.

One thread for the whole server, one question at a time, after each a pause as long as it took, and none while pages are drawn one after
the other: clicks go first. A page that is drawn anew says anew what is likely there; what was likely before and has not been worked out
yet is forgotten. Only what is kept by
app.data and app.decisions under its question is worth asking ahead. Without a server (tests, a page run by itself) nothing is done.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

from app.background import Background
from records.errors import IsochroneError

__all__ = ["Ahead", "begin", "soon"]

log = logging.getLogger(__name__)

Question = Callable[[], object]

#: Of so many pages there are questions that wait.
_MOST_PAGES = 8


class Ahead(Background):
    """Questions by page, asked in a thread of its own from `begin` on until `end`.

    pause    seconds of rest for each second of work
    quiet_s  nothing is asked for so long after a page was drawn
    """

    def __init__(self, pause: float = 1.0, quiet_s: float = 1.0) -> None:
        super().__init__("ahead")
        self._pause, self._quiet_s = pause, quiet_s
        self._drawn_s = 0.0
        self._waiting: OrderedDict[str, deque[Question]] = OrderedDict()
        self._is_asking = False

    @property
    def is_busy(self) -> bool:
        """Whether something is worked out, or waits to be."""
        with self._change:
            return self._is_asking or any(self._waiting.values())

    def soon(self, page: str, questions: Iterable[Question]) -> None:
        """What is likely to be asked on a page now, the likeliest first; instead of what was said for it before."""
        with self._change:
            if self._thread is None:
                return
            self._drawn_s = time.monotonic()
            self._waiting.pop(page, None)
            self._waiting[page] = deque(questions)
            while len(self._waiting) > _MOST_PAGES:
                self._waiting.popitem(last=False)
            self._change.notify_all()

    def _work(self) -> None:
        while (question := self._next()) is not None:
            began = time.monotonic()
            try:
                question()
            except IsochroneError:  # whoever asks is told
                log.debug("asked ahead, without an answer", exc_info=True)
            except Exception:
                log.exception("a question asked ahead failed")
            with self._change:
                self._change.wait_for(lambda: self._is_over, timeout=self._pause * (time.monotonic() - began))

    def _forget(self) -> None:
        self._waiting.clear()

    def _next(self) -> Question | None:
        """The next question of the page that was drawn last; waits for one; None at the end."""
        with self._change:
            self._is_asking = False
            while not self._is_over:
                while self._waiting and not self._is_over:
                    if (left_s := self._drawn_s + self._quiet_s - time.monotonic()) > 0:
                        self._change.wait(left_s)
                        continue
                    page = next(reversed(self._waiting))
                    if self._waiting[page]:
                        self._is_asking = True
                        return self._waiting[page].popleft()
                    del self._waiting[page]
                if not self._is_over:
                    self._change.wait()
        return None


_SERVER = Ahead()
begin, soon = _SERVER.begin, _SERVER.soon
