"""The source that all sessions look at now, read before anybody is shown it.

A fleet of hundreds of PoPs has a hundred thousand links, and reading them takes seconds: no session should wait for that every tick. In the
server a thread reads the newest snapshot with its links, and only then do the sessions see it; until then they see the one before, whose
moment the page says. It reads while somebody looks, and rests three times as long as it took. Without that thread (tests, a page run by
itself) whoever asks reads.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from app.background import Background
from records.errors import IsochroneError

__all__ = ["Current"]

log = logging.getLogger(__name__)

#: Seconds of rest for each second of reading.
_REST = 3.0
#: Who has read for longer than this is not waited for.
_READING_S = 120.0


class _Dated(Protocol):
    """A snapshot and the moment it is looked at; a later one is greater in both."""

    @property
    def snapshot(self) -> int: ...
    @property
    def now(self) -> object: ...


S = TypeVar("S", bound=_Dated)


@dataclass(slots=True)
class _Place(Generic[S]):
    """What is known of one warehouse; times by the monotonic clock: when it was read, when somebody began to read it anew."""

    source: S
    read_s: float
    begun_s: float | None = None
    took_s: float = 0.0
    asked_s: float = 0.0
    windows: dict[str, float] = field(default_factory=dict)


class Current(Background, Generic[S]):
    """The newest source by place that is ready to be shown.

    read     the newest source of a place
    prepare  reads what the pages show first of a source, for a window
    tick_s   how often it is read at most
    watched_s  for how long after somebody asked it is read on; windows nobody asked for as long are not prepared
    """

    def __init__(
        self,
        read: Callable[[str], S],
        prepare: Callable[[S, str], object] = lambda _source, _window: None,
        *,
        tick_s: float,
        watched_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.read, self.prepare = read, prepare
        self._tick_s, self._watched_s, self._clock = tick_s, watched_s, clock
        super().__init__("current")
        self._places: dict[str, _Place[S]] = {}

    def of(self, place: str) -> S:
        """What to show of a place now; raises what `read` raises where it has to read."""
        with self._change:
            now, known = self._clock(), self._places.get(place)
            if known is not None:
                known.asked_s = now
                is_being_read = known.begun_s is not None and now - known.begun_s <= _READING_S
                # Else nobody has looked for long, or it cannot be read any more.
                if is_being_read or now - known.read_s <= 2 * max(self._tick_s, (1 + _REST) * known.took_s):
                    return known.source
            is_ahead = self._thread is not None
        source = self.read(place)
        if is_ahead:
            self._put(place, source, 0.0, asked=True)
        return source

    def looked(self, place: str, window: str) -> None:
        """Somebody looks at a window of a place."""
        with self._change:
            known = self._places.get(place)
            if known is not None:
                known.windows[window] = self._clock()

    def forget(self, place: str) -> None:
        """Nothing is there any more: who asks next reads."""
        with self._change:
            self._places.pop(place, None)

    def refresh(self) -> float:
        """Read every place that is watched; how long that took, in seconds."""
        began = self._clock()
        with self._change:
            watched = {
                place: [window for window, at in known.windows.items() if began - at <= self._watched_s]
                for place, known in self._places.items()
                if began - known.asked_s <= self._watched_s
            }
        for place, windows in watched.items():
            start = self._clock()
            self._mark(place, start)
            try:
                source = self.read(place)
                for window in windows:
                    self.prepare(source, window)
            except IsochroneError:  # who asks next reads, and is told what is wrong
                log.debug("%s could not be read ahead", place, exc_info=True)
                self.forget(place)
            else:
                self._put(place, source, self._clock() - start)
            finally:
                self._mark(place, None)
        return self._clock() - began

    def _mark(self, place: str, begun_s: float | None) -> None:
        with self._change:
            if place in self._places:
                self._places[place].begun_s = begun_s

    def _put(self, place: str, source: S, took_s: float, *, asked: bool = False) -> None:
        with self._change:
            now, known = self._clock(), self._places.get(place)
            if known is None:
                known = self._places[place] = _Place(source, now)
            elif (source.snapshot, source.now) >= (known.source.snapshot, known.source.now):
                known.source = source
            known.read_s, known.took_s = now, took_s or known.took_s
            if asked:
                known.asked_s = now

    def _work(self) -> None:
        while True:
            try:
                took_s = self.refresh()
            except Exception:
                log.exception("reading ahead failed")
                took_s = self._tick_s
            with self._change:
                if self._change.wait_for(lambda: self._is_over, timeout=max(self._tick_s - took_s, _REST * took_s)):
                    return

    def _forget(self) -> None:
        self._places.clear()
