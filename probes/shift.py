"""Has the round-trip time of a path moved, and not just one round? Pure: a state machine fed with one RTT a round.

Rules, above the code that keeps them:

* The baseline is the median of the last thirty rounds, its spread their median absolute deviation (MAD): a few odd
  rounds move neither.
* A round is *off* when it is further from the baseline than the threshold: the largest of an absolute step, a share of the
  baseline, five robust standard deviations (1.4826 MAD) and one and a half times the distance that a fifth of the rounds
  exceed, so that a path of two modes does not shift for ever. No reply at all is off too.
* `rounds` rounds off in a row, on the same side, are a shift. The baseline then starts anew from them.
* Hysteresis: a round between half the threshold and the whole of it neither adds to a run nor ends it; only one within
  half does, or one on the other side. A path that hovers at the threshold does not chatter.
* Rounds of a run that came to nothing enter the baseline after all: that is how a second mode is learnt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum, auto

__all__ = ["Finding", "ShiftDetector"]

_WINDOW = 30
_LEARN = 5
_DEVIATIONS = 5 * 1.4826
_MODES = 1.5


class Finding(Enum):
    """What a round says of its path."""

    LEARNING = auto()
    CALM = auto()
    SUSPECT = auto()
    SHIFTED = auto()


class ShiftDetector:
    """The rounds of one path.

    step_ns  least distance from the baseline that counts, ns
    share    the same as a share of the baseline
    rounds   how many rounds off make a shift
    """

    __slots__ = ("_is_reachable", "_run", "_side", "_window", "rounds", "share", "step_ns")

    def __init__(self, *, step_ns: int, share: float, rounds: int) -> None:
        self.step_ns, self.share, self.rounds = step_ns, share, rounds
        self._window: deque[int] = deque(maxlen=_WINDOW)
        self._run: list[int | None] = []
        self._side = 0
        self._is_reachable: bool | None = None

    @property
    def baseline_ns(self) -> int | None:
        """The median RTT of late; None where there is none yet, or where nothing answers any more."""
        return _median(self._window) if self._window and self._is_reachable is not False else None

    def observe(self, rtt_ns: int | None) -> Finding:
        """One more round; None when nothing came back."""
        if self._is_reachable is None:
            return self._first(rtt_ns)
        if (rtt_ns is not None) != self._is_reachable:
            return self._off(rtt_ns, side=0)  # it fell silent, or speaks again
        if rtt_ns is None:
            return self._calm(None)
        if len(self._window) < _LEARN:
            self._calm(rtt_ns)
            return Finding.LEARNING
        middle = _median(self._window)
        distances = sorted(abs(one - middle) for one in self._window)
        modes = distances[len(distances) * 4 // 5]
        threshold = max(self.step_ns, self.share * middle, _DEVIATIONS * _median(distances), _MODES * modes)
        distance = rtt_ns - middle
        side = 1 if distance > 0 else -1
        if abs(distance) > threshold:
            return self._off(rtt_ns, side=side)
        if self._run and self._side == side and abs(distance) > threshold / 2:
            return Finding.SUSPECT
        return self._calm(rtt_ns)

    def _first(self, rtt_ns: int | None) -> Finding:
        """Until it has answered once, or been silent for a run, nothing is known and nothing can move."""
        self._run.append(rtt_ns)
        if rtt_ns is not None or len(self._run) >= self.rounds:
            self._is_reachable = rtt_ns is not None
            self._run.clear()
            if rtt_ns is not None:
                self._window.append(rtt_ns)
        return Finding.LEARNING

    def _off(self, rtt_ns: int | None, *, side: int) -> Finding:
        if self._run and (self._side != side or (self._run[-1] is None) != (rtt_ns is None)):
            self._give_up_run()
        self._run.append(rtt_ns)
        self._side = side
        if len(self._run) < self.rounds:
            return Finding.SUSPECT
        self._is_reachable = rtt_ns is not None
        self._window.clear()
        self._window.extend(one for one in self._run if one is not None)
        self._run.clear()
        return Finding.SHIFTED

    def _calm(self, rtt_ns: int | None) -> Finding:
        self._give_up_run()
        if rtt_ns is not None:
            self._window.append(rtt_ns)
        return Finding.CALM

    def _give_up_run(self) -> None:
        if self._is_reachable:
            self._window.extend(one for one in self._run if one is not None)
        self._run.clear()


def _median(values: Iterable[int]) -> int:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) // 2
