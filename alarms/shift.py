"""Has the RTT, or the loss, of a link moved for good? Pure: state machines fed with one time bucket after the other.

RTT (`RttSeries`), a test by ranks:

* The baseline is the last `window` buckets (240 minutes) before the ones that are looked at. One value a bucket: the median RTT.
* A bucket is *off* when it is beyond the m-th greatest (least) value of the baseline, m = window / 40, **and** further from the
  baseline's median than the margin: the largest of `step_ms`, `share` of the median, and the distance from the median to that m-th
  value. The ranks bound how often chance alone alarms; the margin keeps out what nobody would want to hear of.
* `run` buckets off in a row, on one side, are a shift. Were the buckets of a path that has not changed exchangeable, this would
  happen by chance with probability C(m-1+run, run) / C(window+run, run) at each bucket, whatever their distribution: `run` is
  the least number that keeps the rate asked for (`false_per_day`). Buckets without an answer neither add to a run nor end it.
* Buckets of a run that came to nothing enter the baseline after all.

Loss (`LossSeries`), a likelihood test (CUSUM; Page 1954): each bucket adds its log-likelihood ratio of p1 against p0, never below 0; p0 is
the loss of the baseline and 2.5 standard errors. There are two such sums: p1 = p0 + step, for a loss that creeps, and p1 = 1/2, for one
that is plain. When either is h = ln(2 * buckets a day / false_per_day) it alarms: for independent losses the mean time between false
alarms is at least e^h / 2 buckets (Lorden 1971) where the baseline does not say too little of the loss, and over what it may say the
rate stays under `false_per_day` too (bench/alarm_rates.py computes it). One bucket adds h / 3 at most, so that a burst is no shift.
Losses that come in bursts are not independent, and nothing is stated of them but what docs/alarms.md says was simulated.

Hysteresis, both: while a shift is on, the baseline stands still. It is over when `run` buckets in a row are within half the margin of it
(recovered), or when it has lasted for `settle` buckets: then the new level is the baseline (settled). What comes and goes is one alarm
before long: a shift that comes within `settle` buckets of the end of the one before needs twice as many buckets until it is over, up to
a whole `window` (the same thought as the damping of route flaps, RFC 2439).
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, insort
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any, Literal

__all__ = ["Level", "LossSeries", "RttSeries", "ShiftRules", "false_alarms_per_day", "run_for"]

_TAIL = 40
_BURST_BUCKETS = 3
_LEAST_LOSS = 0.002
#: Standard errors by which a baseline may understate a loss.
_ERRORS = 2.5
_MOST_RUN = 30
#: Of more packets in a bucket a baseline keeps the ratio of the lost: more make it no surer.
_MOST_SENT = 65_535


def false_alarms_per_day(*, window: int, run: int, per_day: float) -> float:
    """The most false RTT alarms of one series a day, both sides, when its buckets are exchangeable."""
    m = max(1, window // _TAIL)
    return 2 * per_day * math.comb(m - 1 + run, run) / math.comb(window + run, run)


def run_for(*, window: int, per_day: float, rate: float) -> int:
    """The least run that keeps the false alarms of a series under `rate` a day."""
    for run in range(2, _MOST_RUN):
        if false_alarms_per_day(window=window, run=run, per_day=per_day) <= rate:
            return run
    return _MOST_RUN


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftRules:
    """What the detectors go by.

    window, learn    buckets of a whole baseline, and the least that one needs
    run              buckets off in a row that are a shift
    step_ms, share   least distance of an RTT from its baseline that counts: in ms, and as a share of it
    loss_step        least rise of the loss ratio that counts
    loss_limit       h of the test for loss
    settle           buckets after which a new level is the usual one
    """

    window: int = 240
    learn: int = 60
    run: int = 5
    step_ms: float = 5.0
    share: float = 0.05
    loss_step: float = 0.02
    loss_limit: float = math.log(2 * 1440 / 2e-4)
    settle: int = 1440

    @classmethod
    def for_rate(
        cls,
        *,
        rate: float,
        per_day: float,
        window: int,
        learn: int,
        run: int | None,
        step_ms: float,
        share: float,
        loss_step: float,
        settle: int,
    ) -> ShiftRules:
        """The rules that keep the false alarms of a series, of RTT and of loss each, under `rate` a day of `per_day` buckets.

        run   insists on a run instead, and gives up the bound for RTT
        """
        return cls(
            window=window,
            learn=learn,
            run=run or run_for(window=window, per_day=per_day, rate=rate),
            step_ms=step_ms,
            share=share,
            loss_step=loss_step,
            loss_limit=max(1.0, math.log(2 * per_day / rate)),
            settle=settle,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A shift that is on: from `baseline` to `value` (ms, or a loss ratio), `margin` its hysteresis; since when, for how many buckets.

    times   how many shifts, with this one, have come each soon after the one before
    """

    baseline: float
    value: float
    margin: float
    since: datetime
    seen: int = 0
    times: int = 1

    def kept(self) -> dict[str, Any]:
        """What is needed to go on after a restart, as JSON."""
        return {**asdict(self), "since": self.since.isoformat()}

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Level:
        """The level of what `kept` gave, here or in another version: what only that one knows is left out."""
        known = {each.name: kept[each.name] for each in fields(cls) if each.name in kept}
        return cls(**{**known, "since": datetime.fromisoformat(kept["since"])})


Ending = Literal["recovered", "settled"]


class _Series:
    """What both detectors have in common: `level` is the shift that is on; `ended` why the last one ended.

    measured_at   the newest bucket, noted by whoever feeds the series; all links share the time of one bucket, so it takes a reference
    """

    __slots__ = ("_back", "_quiet", "_rules", "_times", "ended", "level", "measured_at")

    def __init__(self, rules: ShiftRules, level: Level | None = None) -> None:
        self._rules = rules
        self._back = 0
        self._times = 0  # shifts so far of which each came soon after the one before
        self._quiet = 0  # buckets after which the next one counts as the first
        self.level = level
        self.ended: Ending | None = None
        self.measured_at: datetime | None = None

    def _wait(self) -> None:
        """One bucket without a shift."""
        if self._quiet:
            self._quiet -= 1
            if not self._quiet:
                self._times = 0

    def _begin(self, *, baseline: float, value: float, margin: float, since: datetime, seen: int) -> None:
        self._times, self._quiet, self._back = self._times + 1, 0, 0
        self.level = Level(baseline=baseline, value=value, margin=margin, since=since, seen=seen, times=self._times)

    def _hold(self, level: Level) -> int:
        """Buckets that must be as before until the shift is over."""
        return min(max(self._rules.window, self._rules.run), self._rules.run << min(level.times - 1, 16))

    def _end(self, level: Level, why: Ending) -> None:
        self._times, self._quiet, self._back = (level.times, self._rules.settle, 0) if why == "recovered" else (0, 0, 0)
        self.level, self.ended = None, why


class RttSeries(_Series):
    """One link's median RTTs, ms."""

    __slots__ = ("_late", "_order", "_run", "_side", "_sorted")

    def __init__(self, rules: ShiftRules, level: Level | None = None) -> None:
        super().__init__(rules, level)
        # Of every link there may be hundreds of these: in 4 bytes each, which keeps seven digits.
        self._order, self._sorted = array("f"), array("f")
        self._run: list[tuple[datetime, float]] = []
        self._late = array("f")  # no deque: an empty one holds room for 64
        self._side = 0

    @property
    def is_learning(self) -> bool:
        """Whether it knows too little to judge."""
        return len(self._order) < self._rules.learn

    def learn(self, value: float | None) -> None:
        """One bucket of the past, that is not judged any more."""
        if value is not None:
            self._add(value)

    def observe(self, at: datetime, value: float | None) -> None:
        """One more bucket; None where nothing answered."""
        if value is None:
            return
        value = array("f", (value,))[0]  # as it is kept: else a value that never changes lies beside itself
        if self.level is not None:
            self._shifted(self.level, value)
            return
        self._wait()
        if self.is_learning:
            self._add(value)
            return
        low, middle, high = self._bounds()
        side = 1 if value > high else -1 if value < low else 0
        if side != self._side:
            for _, each in self._run:
                self._add(each)
            self._run.clear()
            self._side = side
        if not side:
            self._add(value)
            return
        self._run.append((at, value))
        if len(self._run) >= self._rules.run:
            values = sorted(each for _, each in self._run)
            edge = high if side > 0 else low
            self._begin(baseline=middle, value=values[len(values) // 2], margin=abs(edge - middle), since=self._run[0][0], seen=len(values))
            self._late = array("f", [each for _, each in self._run])
            self._run.clear()
            self._side = 0

    def _bounds(self) -> tuple[float, float, float]:
        """(least value that is not off, median, greatest value that is not off)."""
        ordered, rules = self._sorted, self._rules
        n = len(ordered)
        m = max(1, n // _TAIL)
        middle = ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2
        step = max(rules.step_ms, rules.share * middle)
        return min(ordered[m - 1], middle - step), middle, max(ordered[-m], middle + step)

    def _shifted(self, level: Level, value: float) -> None:
        rules = self._rules
        self._late.append(value)
        del self._late[: -rules.window]
        recent = sorted(self._late[-rules.run :])
        self._back = self._back + 1 if abs(value - level.baseline) <= level.margin / 2 else 0
        # What is on its way back does not hide how far it was away.
        now = level.value if self._back else recent[len(recent) // 2]
        self.level = replace(level, value=now, seen=level.seen + 1)
        if self._back >= self._hold(level):
            self._end(level, "recovered")
        elif level.seen + 1 >= rules.settle:
            self._order, self._sorted = array("f"), array("f")
            self._end(level, "settled")
            for each in self._late:
                self._add(each)
            self._late = array("f")

    def _add(self, value: float) -> None:
        insort(self._sorted, value)
        self._order.append(value)
        if len(self._order) > self._rules.window:
            gone = self._order.pop(0)
            self._sorted.pop(bisect_left(self._sorted, gone))


class LossSeries(_Series):
    """One link's packets by bucket: how many were sent, and lost. `level` is in loss ratios."""

    __slots__ = ("_buckets", "_lost", "_recent", "_scores", "_sent", "_waiting")

    def __init__(self, rules: ShiftRules, level: Level | None = None) -> None:
        super().__init__(rules, level)
        self._buckets = array("H")  # sent and lost in turns: two numbers of 2 bytes for each of hundreds of buckets of every link
        self._sent = self._lost = 0
        self._scores = (0.0, 0.0)
        self._waiting: list[tuple[datetime, int, int]] = []
        self._recent = array("I")

    @property
    def is_learning(self) -> bool:
        """Whether it knows too little to judge."""
        return len(self._buckets) < 2 * self._rules.learn

    def learn(self, sent: int, lost: int) -> None:
        """One bucket of the past, that is not judged any more."""
        if sent:
            self._add(sent, lost)

    def observe(self, at: datetime, sent: int, lost: int) -> None:
        """One more bucket; without a packet it says nothing."""
        if not sent:
            return
        if self.level is not None:
            self._shifted(self.level, sent, lost)
            return
        self._wait()
        if self.is_learning or (not lost and not self._waiting):
            self._add(sent, lost)  # without a loss no sum rises from nothing
            return
        rules = self._rules
        p0 = min(0.9, max(_LEAST_LOSS, (self._lost + _ERRORS * math.sqrt(self._lost + 1)) / self._sent))
        creeping, plain = self._scores
        creeping = self._added(creeping, sent, lost, p0, min(0.99, max(p0 + rules.loss_step, 1.5 * p0)))
        plain = self._added(plain, sent, lost, p0, max(0.5, (1 + p0) / 2))
        self._scores = creeping, plain
        self._waiting.append((at, sent, lost))
        if creeping <= 0 and plain <= 0:
            self._flush()
        elif max(self._scores) >= rules.loss_limit:
            self._open()
        elif len(self._waiting) >= rules.window:  # it neither rises nor falls: what waits is the baseline
            self._flush()

    def _added(self, score: float, sent: int, lost: int, p0: float, p1: float) -> float:
        ratio = lost * math.log(p1 / p0) + (sent - lost) * math.log((1 - p1) / (1 - p0))
        return max(0.0, score + min(ratio, self._rules.loss_limit / _BURST_BUCKETS + 1e-9))

    def _flush(self) -> None:
        for _, sent, lost in self._waiting:
            self._add(sent, lost)
        self._waiting.clear()
        self._scores = (0.0, 0.0)

    def _open(self) -> None:
        first = next(index for index, (_, _, lost) in enumerate(self._waiting) if lost)
        some = self._waiting[first:]
        usual = self._lost / self._sent
        self._recent = array("I", [count for _, sent, lost in some for count in (sent, lost)])[-2 * self._rules.run :]
        self._begin(baseline=usual, value=self._ratio(self._rules.run), margin=self._rules.loss_step, since=some[0][0], seen=len(some))
        self._waiting.clear()
        self._scores = (0.0, 0.0)

    def _ratio(self, buckets: int) -> float:
        """Lost of all that were sent in the last so many."""
        recent = self._recent[-2 * buckets :]
        return sum(recent[1::2]) / sum(recent[::2])

    def _shifted(self, level: Level, sent: int, lost: int) -> None:
        rules, hold, calm = self._rules, self._hold(level), level.baseline + level.margin / 2
        self._recent.extend((sent, lost))
        del self._recent[: -2 * hold]
        self._back = self._back + 1 if lost / sent <= calm else 0
        now = level.value if self._back else self._ratio(rules.run)
        self.level = replace(level, value=now, seen=level.seen + 1)
        if self._back >= hold or (len(self._recent) == 2 * hold and self._ratio(hold) <= calm):
            self._end(level, "recovered")
        elif level.seen + 1 >= rules.settle:
            self._buckets = array("H")
            self._sent = self._lost = 0
            for each in zip(self._recent[::2], self._recent[1::2], strict=True):
                self._add(*each)
            self._end(level, "settled")

    def _add(self, sent: int, lost: int) -> None:
        if sent > _MOST_SENT:
            sent, lost = _MOST_SENT, round(lost * _MOST_SENT / sent)
        self._buckets.extend((sent, lost))
        self._sent += sent
        self._lost += lost
        if len(self._buckets) > 2 * self._rules.window:
            self._sent -= self._buckets.pop(0)
            self._lost -= self._buckets.pop(0)
