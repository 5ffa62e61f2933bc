"""What an agent knows of its own health: how late its loop runs, how wrong its clock may be, and the grade from that.

RTTs do not depend on the wall clock, so an unsynchronised clock alone degrades nobody; it is reported as unknown.
"""

from __future__ import annotations

import asyncio
import ctypes
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from records.statistics import percentile_ns
from records.units import MS, SECOND, US

__all__ = ["LoopLag", "Vitals", "clock_error_ns", "grade", "product_version"]

#: Above these an agent marks its own rows (kernel-stamped RTTs survive a busy loop; TTFT and user-clock RTTs do not).
LAG_LIMIT_NS = 250 * MS
CLOCK_ERROR_LIMIT_NS = SECOND
SKIPPED_LIMIT = 0.1
FAILED_LIMIT = 0.5

_SAMPLE_S = 0.1
_STA_UNSYNC = 0x0040


def product_version() -> str:
    """The installed version of Isochrone; ``unknown`` when it runs from a bare checkout."""
    try:
        return version("isochrone")
    except PackageNotFoundError:
        return "unknown"


class LoopLag:
    """Samples ten times a second how much later than asked the event loop wakes up."""

    def __init__(self) -> None:
        self._samples_ns: list[int] = []

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            before_ns = time.monotonic_ns()
            await asyncio.sleep(_SAMPLE_S)
            self._samples_ns.append(max(0, time.monotonic_ns() - before_ns - round(_SAMPLE_S * SECOND)))

    def take_p99_ns(self) -> int | None:
        """The 99th percentile since the last call, in ns; None without a sample."""
        samples, self._samples_ns = self._samples_ns, []
        return percentile_ns(samples, 0.99)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """What the grade is made from, all since the last status.

    rounds, skipped   rounds that were due, and those of them that were skipped
    runs, failures    measurements ended by kind, and those that ended in an exception
    errors            the last exception's text by kind
    dropped           measurements lost to the spool's bound or a full disk
    not_stored        measurements the collector rejected or would never take
    """

    loop_lag_p99_ns: int | None = None
    clock_error_ns: int | None = None
    rounds: int = 0
    skipped: int = 0
    runs: Mapping[str, int]
    failures: Mapping[str, int]
    errors: Mapping[str, str]
    dropped: int = 0
    not_stored: int = 0


def grade(vitals: Vitals) -> tuple[Literal["ok", "degraded"], tuple[str, ...]]:
    """The grade and, for `degraded`, every reason as a sentence."""
    reasons = []
    lag, error = vitals.loop_lag_p99_ns, vitals.clock_error_ns
    if lag is not None and lag > LAG_LIMIT_NS:
        reasons.append(f"event loop {lag // MS} ms late (p99; limit {LAG_LIMIT_NS // MS} ms)")
    if error is not None and error > CLOCK_ERROR_LIMIT_NS:
        reasons.append(f"wall clock may be wrong by {error / SECOND:.1f} s (limit {CLOCK_ERROR_LIMIT_NS // SECOND} s)")
    if vitals.skipped > SKIPPED_LIMIT * max(vitals.rounds, 10):
        reasons.append(f"{vitals.skipped} of {vitals.rounds} rounds skipped")
    for kind, failed in vitals.failures.items():
        if failed > FAILED_LIMIT * vitals.runs.get(kind, 0):
            reasons.append(f"{kind}: {failed} of {vitals.runs.get(kind, 0)} runs failed: {vitals.errors.get(kind, 'unknown')}")
    if vitals.dropped:
        reasons.append(f"{vitals.dropped} measurements dropped: spool full")
    if vitals.not_stored:
        reasons.append(f"{vitals.not_stored} measurements refused by the collector")
    return ("degraded", tuple(reasons)) if reasons else ("ok", ())
