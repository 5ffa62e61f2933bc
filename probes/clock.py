"""The wall clock, held against the one that nobody can set; and what the kernel says of its error."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterable

from records.batch import Line
from records.dating import redated
from records.units import SECOND, US

__all__ = ["ClockSteps", "Dating", "clock_error_ns", "wall_clock_ns", "wall_offset_ns"]

_STA_UNSYNC = 0x0040
#: No measurement takes longer. A clock that is set by less is let be: a collector takes what is ten minutes ahead.
_LONGEST_NS = 600 * SECOND


def wall_clock_ns() -> int:
    """Unix time by this host's clock, ns."""
    return time.time_ns()


def wall_offset_ns() -> int:
    """The wall clock less the time since boot, sleep included, in ns: it moves when somebody sets the clock, and hardly else."""
    return wall_clock_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class ClockSteps:
    """Whether somebody set the wall clock."""

    def __init__(self) -> None:
        self._offset_ns = wall_offset_ns()

    def take_ns(self) -> int:
        """How far the wall clock was set since the last call, in ns; forward is positive."""
        before, self._offset_ns = self._offset_ns, wall_offset_ns()
        return self._offset_ns - before


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2), as far as it is read here; the rest is room."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    ]


def clock_error_ns() -> int | None:
    """The kernel's estimate of the wall clock's error in ns (adjtimex); None when nobody keeps the clock in step.

    Time daemons that give no estimate (esterror 0) leave the bound `maxerror`, which is then taken.
    """
    try:
        timex = _Timex(modes=0)
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (AttributeError, OSError):
        return None
    if state < 0 or timex.status & _STA_UNSYNC:
        return None
    return int(timex.esterror or timex.maxerror) * US


class Dating:
    """Sees to it that all lines that are written down at one time were dated by the same setting of the wall clock.

    A measurement that was under way while somebody set the clock began by the old one: it is dated anew by the new one.
    """

    def __init__(self) -> None:
        self.wall_offset_ns = wall_offset_ns()
        self._set_ns = 0

    def dated(self, lines: Iterable[Line]) -> list[Line]:
        """The lines, by the clock as it is now; `wall_offset_ns` names its setting."""
        now_ns, offset_ns = wall_clock_ns(), wall_offset_ns()
        if abs(offset_ns - self.wall_offset_ns) > _LONGEST_NS:
            self._set_ns = offset_ns - self.wall_offset_ns
        self.wall_offset_ns = offset_ns
        if not self._set_ns:
            return list(lines)

        def moved(at_ns: int) -> int:
            return at_ns + self._set_ns if self._is_of_before(now_ns - at_ns) else at_ns

        return [redated(line, moved) for line in lines]

    def _is_of_before(self, ago_ns: int) -> bool:
        """Whether what by the clock as it is was so long ago was dated before that was set last."""
        return not -SECOND <= ago_ns <= _LONGEST_NS and -SECOND <= ago_ns - self._set_ns <= _LONGEST_NS
