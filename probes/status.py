"""What an agent knows of its own health: how late it runs, how its RTTs are timed, what the host takes from it, how wrong its
clock may be; and the grade from that.

RTTs do not depend on the wall clock, so an unsynchronised clock alone degrades nobody; it is reported as unknown.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from probes.schedule import first_due_ns
from records.measurement import TsSource
from records.statistics import percentile_ns
from records.units import MS, SECOND

__all__ = ["CpuSteal", "Lateness", "LoopLag", "Vitals", "grade", "product_version"]

#: Above these an agent marks its own rows (kernel-stamped RTTs survive a busy loop; TTFT and user-clock RTTs do not).
LAG_LIMIT_NS = 250 * MS
CLOCK_ERROR_LIMIT_NS = SECOND
SKIPPED_LIMIT = 0.1
FAILED_LIMIT = 0.5
#: Of the time of all processors; the kernel's stamps are late too while the host does not run us.
STEAL_LIMIT = 0.1
#: RTTs timed by this process are wrong by about as much as its loop is late.
USER_TIMED_LIMIT = 0.1
USER_TIMED_LAG_NS = 5 * MS
CLOCK_STEP_LIMIT_NS = 100 * MS

_SAMPLE_NS = 100 * MS


def product_version() -> str:
    """The installed version of Isochrone; ``unknown`` when it runs from a bare checkout."""
    try:
        return version("isochrone")
    except PackageNotFoundError:
        return "unknown"


class LoopLag:
    """Samples ten times a second how much later than asked the event loop wakes up.

    phase_ns  of the samples on the monotonic clock: where something else wakes the loop too, it is woken once for both
    """

    def __init__(self, phase_ns: int = 0) -> None:
        self._samples_ns: list[int] = []
        self._phase_ns = phase_ns
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Sample until cancelled."""
        self._set_timer()
        try:
            await asyncio.Event().wait()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _set_timer(self) -> None:
        due_ns = first_due_ns(time.monotonic_ns() + 1, _SAMPLE_NS, self._phase_ns)
        self._timer = asyncio.get_running_loop().call_at(due_ns / SECOND, self._sample, due_ns)

    def _sample(self, due_ns: int) -> None:
        self._samples_ns.append(max(0, time.monotonic_ns() - due_ns))
        self._set_timer()

    def take_p99_ns(self) -> int | None:
        """The 99th percentile since the last call, in ns; None without a sample."""
        samples, self._samples_ns = self._samples_ns, []
        return percentile_ns(samples, 0.99)


class Lateness:
    """How much later than due rounds were started."""

    def __init__(self) -> None:
        self._samples_ns: list[int] = []

    def add(self, late_ns: int) -> None:
        """One more round."""
        self._samples_ns.append(late_ns)

    def take_p99_ns(self) -> int | None:
        """The 99th percentile since the last call, in ns; None without a round."""
        samples, self._samples_ns = self._samples_ns, []
        return percentile_ns(samples, 0.99)


class CpuSteal:
    """The share of processor time that a hypervisor gave to others while this machine had work; from /proc/stat (proc(5))."""

    def __init__(self, path: Path = Path("/proc/stat")) -> None:
        self._path = path
        self._before = self._read()

    def take_ratio(self) -> float | None:
        """Since the last call; None where the kernel does not say or no time has passed."""
        before, now = self._before, self._read()
        self._before = now
        if before is None or now is None or now[1] <= before[1]:
            return None
        return max(0, now[0] - before[0]) / (now[1] - before[1])

    def _read(self) -> tuple[int, int] | None:
        """(stolen, all) in ticks. `guest` and `guest_nice` are part of `user` and `nice`."""
        try:
            fields = self._path.read_text().split("\n", 1)[0].split()
            ticks = [int(field) for field in fields[1:9]]
        except (OSError, ValueError):
            return None
        return (ticks[7], sum(ticks)) if fields[:1] == ["cpu"] and len(ticks) == 8 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """What the grade is made from, all since the last status.

    rounds, skipped   rounds that were due, and those of them that were skipped
    runs, failures    measurements ended by kind, and those that ended in an exception
    errors            the last exception's text by kind
    round_lag_p99_ns  how late rounds were started
    steal_ratio       of processor time; None: not known
    stamps            RTTs by how they were timed
    clock_step_ns     how far the wall clock was set
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
    round_lag_p99_ns: int | None = None
    steal_ratio: float | None = None
    stamps: Mapping[TsSource, int] = field(default_factory=dict)
    clock_step_ns: int = 0
    dropped: int = 0
    not_stored: int = 0


def grade(vitals: Vitals) -> tuple[Literal["ok", "degraded"], tuple[str, ...]]:
    """The grade and, for `degraded`, every reason as a sentence."""
    reasons = []
    lag, error = vitals.loop_lag_p99_ns, vitals.clock_error_ns
    if lag is not None and lag > LAG_LIMIT_NS:
        reasons.append(f"event loop {lag // MS} ms late (p99; limit {LAG_LIMIT_NS // MS} ms)")
    if vitals.steal_ratio is not None and vitals.steal_ratio > STEAL_LIMIT:
        reasons.append(f"{vitals.steal_ratio:.0%} of the processors' time went to other guests (limit {STEAL_LIMIT:.0%})")
    timed, by_us = sum(vitals.stamps.values()), vitals.stamps.get("user", 0)
    if by_us > USER_TIMED_LIMIT * timed and lag is not None and lag > USER_TIMED_LAG_NS:
        reasons.append(f"{by_us} of {timed} RTTs were timed by this process while its loop was {lag // MS} ms late, not by the kernel")
    if abs(vitals.clock_step_ns) > CLOCK_STEP_LIMIT_NS:
        reasons.append(f"wall clock was set by {vitals.clock_step_ns / SECOND:+.3f} s; times of rows before and after do not compare")
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
