"""How often the alarms of RTT and loss are wrong, and what they find.

RTT, on the real series of ../shared/data (nothing is said of it where they are not there): each link's values drawn in any order, so
that no shift is in them, minute by minute for as many days as asked, judged by the collector's own detector. Then steps put into them.
Of loss there is no public series: the rate follows from the detector's definition for independent losses (a Markov chain over its sum,
averaged over what a baseline of four hours may hold), and is checked by simulation, here as elsewhere called simulated.
All rates have exact 95 % limits for a Poisson count.

    python bench/alarm_rates.py [--json] [--days N]
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import platform
import statistics
import sys
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse, stats
from scipy.sparse.linalg import spsolve

sys.path.insert(0, str(Path(__file__).parents[1]))

from alarms.shift import LossSeries, RttSeries, ShiftRules, false_alarms_per_day

REAL = Path(__file__).parents[2] / "shared" / "data" / "ibm-latency" / "ibm_vpc_interregion_weekly.csv"
NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = 1440
#: Minutes that come before what is judged, and that are judged beside it.
_BEFORE, _AFTER = 300, 40
#: A run of alarms lies beyond the sixth greatest of 240 values; that this be below their 87 % quantile has a chance of 2e-8.
_QUANTILE = 0.87


def _series() -> list[np.ndarray]:
    if not REAL.exists():
        return []
    series: dict[tuple[str, str], list[float]] = defaultdict(list)
    with REAL.open() as file:
        for row in csv.DictReader(file):
            series[row["src"], row["dst"]].append(float(row["avg_rtt_ms"]))
    return [np.array(values) for values in series.values()]


def _rate(count: int, days: float) -> dict[str, float]:
    """Events a day with the exact limits of a Poisson count (Garwood 1936)."""
    low = stats.chi2.ppf(0.025, 2 * count) / 2 if count else 0.0
    return {
        "count": count,
        "days": days,
        "per_day": count / days,
        "low": low / days,
        "high": stats.chi2.ppf(0.975, 2 * count + 2) / 2 / days,
    }


def _alarms_near(minutes: np.ndarray, rules: ShiftRules) -> list[int]:
    """At which minutes the detector alarms that has seen all of them.

    It can only where `run` of them in a row are beyond the quantile: elsewhere nothing need be judged, and 300 minutes before such a
    place it has the same baseline as if it had judged all (a minute not judged is learnt).
    """
    found: set[int] = set()
    low, high = np.quantile(minutes, [1 - _QUANTILE, _QUANTILE])
    for off in (minutes > high, minutes < low):
        runs = np.convolve(off, np.ones(rules.run, dtype=int), "valid") == rules.run
        done = 0
        for place in np.flatnonzero(runs).tolist():
            if place < max(done, _BEFORE):
                continue
            done = place + _AFTER
            series = RttSeries(rules)
            start = place - _BEFORE
            for value in minutes[start : start + rules.window].tolist():
                series.learn(value)
            for n in range(start + rules.window, min(done + rules.run, len(minutes))):
                series.observe(NOW, float(minutes[n]))
                if series.level is not None:
                    found.add(n)
                    break
    return sorted(found)


def _false_rtt(real: list[np.ndarray], rules: ShiftRules, days: int, seed: int) -> dict[str, float]:
    chance, count, minutes = np.random.default_rng(seed), 0, 0
    at_once = 50 * DAY
    while minutes < days * DAY:
        values = real[chance.integers(len(real))]
        # Whole milliseconds tie, which minutes in ns do not: half of the resolution is spread over them.
        drawn = chance.choice(values, at_once + _BEFORE) + chance.uniform(-0.5, 0.5, at_once + _BEFORE)
        count += len(_alarms_near(drawn, rules))
        minutes += at_once
    return _rate(count, minutes / DAY)


def _power(real: list[np.ndarray], rules: ShiftRules) -> dict[str, Any]:
    """Steps put into calm days (values within 5 % of their median): the share of links they are found on, when, and why not on others."""
    chance, found = np.random.default_rng(5), {}
    for step_ms in (5.0, 10.0, 15.0, 20.0, 30.0, 50.0):
        delays, why = [], Counter[str]()
        for values in real:
            middle = float(np.median(values))
            calm = values[abs(values - middle) <= 0.05 * middle]
            before = chance.choice(calm, rules.window) + chance.uniform(-0.5, 0.5, rules.window)
            series, delay = RttSeries(rules), 0
            for value in before.tolist():
                series.learn(value)
            while series.level is None and delay < 60:
                delay += 1
                series.observe(NOW, float(chance.choice(calm)) + chance.uniform(-0.5, 0.5) + step_ms)
            if series.level is not None:
                delays.append(delay)
                continue
            spread = float(np.sort(before)[-6] - np.median(before))
            widest = max((rules.step_ms, "least_step"), (rules.share * middle, "share_of_rtt"), (spread, "spread"))
            why[widest[1]] += 1
        found[f"{step_ms:g}_ms"] = {
            "found_share": len(delays) / len(real),
            "median_minutes": statistics.median(delays) if delays else None,
            "missed_for": dict(why),
        }
    return found


# -- loss ---------------------------------------------------------------------------------------------------------------


def _arl(p: float, p0: float, p1: float, sent: int, limit: float, cells: int = 1200) -> float:
    """Mean minutes between alarms of one sum (Brook and Evans 1972): each minute adds a binomial number of losses' likelihood ratio."""
    lost = np.arange(sent + 1)
    ratio = np.minimum(lost * math.log(p1 / p0) + (sent - lost) * math.log((1 - p1) / (1 - p0)), limit / 3 + 1e-9)
    chance = stats.binom.pmf(lost, sent, p)
    at = np.arange(cells) / cells * limit
    rows, columns, weights = [], [], []
    for add, weight in zip(ratio.tolist(), chance.tolist(), strict=True):
        place = np.maximum(0.0, at + add) / limit * cells
        lower = np.floor(place).astype(int)
        part = place - lower
        for column, share in ((lower, 1 - part), (lower + 1, part)):
            stays = column < cells
            rows.append(np.flatnonzero(stays))
            columns.append(column[stays])
            weights.append(weight * share[stays])
    moves = sparse.csc_matrix((np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=(cells, cells))
    return float(spsolve(sparse.identity(cells, format="csc") - moves, np.ones(cells))[0])


def _stated_loss(p: float, sent: int, rules: ShiftRules) -> float:
    """False alarms a day for independent losses: of both sums, over what the baseline may say of the loss."""
    packets, total = sent * rules.window, 0.0
    for lost in range(int(stats.binom.ppf(1e-4, packets, p)), int(stats.binom.ppf(1 - 1e-4, packets, p)) + 1):
        p0 = min(0.9, max(0.002, (lost + 2.5 * math.sqrt(lost + 1)) / packets))
        sums = (min(0.99, max(p0 + rules.loss_step, 1.5 * p0)), max(0.5, (1 + p0) / 2))
        total += stats.binom.pmf(lost, packets, p) * sum(DAY / _arl(p, p0, p1, sent, rules.loss_limit) for p1 in sums)
    return total


def _false_loss(draw: Any, sent: int, rules: ShiftRules, days: int) -> dict[str, float]:
    """Simulated: the detector itself over losses that `draw` gives by the day."""
    series, count, judged = LossSeries(rules), 0, 0
    for lost in draw(1).tolist()[: rules.window]:
        series.learn(sent, lost)
    for _ in range(days):
        for lost in draw(1).tolist():
            was_on = series.level is not None
            judged += not was_on
            series.observe(NOW, sent, lost)
            count += series.level is not None and not was_on
    return _rate(count, judged / DAY)


def _told(draw: Any, sent: int, days: int) -> dict[str, Any]:
    """Simulated: alarms a day of a link by the usual rules; how many of them are outages, half of what was sent in five minutes lost."""
    series, count, outages, late = LossSeries(ShiftRules()), 0, 0, [0] * 5
    for lost in draw(1).tolist()[:240]:
        series.learn(sent, lost)
    for _ in range(days):
        for lost in draw(1).tolist():
            was_on = series.level is not None
            series.observe(NOW, sent, lost)
            late = [*late[1:], lost]
            if series.level is not None and not was_on:
                count += 1
                outages += 2 * sum(late) >= sent * len(late)
    return _rate(count, days) | {"outages": outages}


def _bursts(p: float, length: float, sent: int, seed: int) -> Any:
    """Losses in bursts of `length` packets on average (Gilbert 1960), the share `p` of all packets."""
    chance = np.random.default_rng(seed)

    def draw(days: int) -> np.ndarray:
        packets = days * DAY * sent
        starts = int(packets / (length + length * (1 - p) / p)) + 1
        good = chance.geometric(p / (length * (1 - p)), 2 * starts)
        bad = chance.geometric(1 / length, 2 * starts)
        is_lost = np.repeat(np.tile([0, 1], 2 * starts), np.stack([good, bad], axis=1).ravel())
        lost: np.ndarray = np.resize(is_lost, packets).reshape(-1, sent).sum(axis=1)
        return lost

    return draw


def _loss(days: int) -> dict[str, Any]:
    strict, loose = ShiftRules(settle=6), ShiftRules(settle=6, loss_limit=math.log(2 * DAY / 20))
    found: dict[str, Any] = {"bound_per_day": 2 * DAY / math.exp(strict.loss_limit), "packets_a_minute": 5, "independent": {}, "bursts": {}}
    for p in (0.001, 0.01, 0.05):
        chance = np.random.default_rng(round(p * 1000))
        draw = lambda n, chance=chance, p=p: chance.binomial(5, p, n * DAY)  # noqa: E731
        found["independent"][f"{p:g}"] = {
            "computed_per_day": _stated_loss(p, 5, strict),
            "simulated": _false_loss(draw, 5, strict, days),
            "loose_bound_per_day": 20.0,
            "loose_computed_per_day": _stated_loss(p, 5, loose),
            "loose_simulated": _false_loss(draw, 5, loose, max(1, days // 4)),
        }
    for p in (0.01, 0.05):
        for length in (2.0, 5.0, 15.0):
            found["bursts"][f"{p:.0%} lost in bursts of {length:g}"] = _told(_bursts(p, length, 5, 3), 5, days)
    return found


def main() -> None:
    """Measure, and say so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--days", type=int, default=20_000, help="days of a link whose RTTs are judged (loss: a hundredth of it)")
    options = parser.parse_args()
    real, rules = _series(), ShiftRules()
    stated = false_alarms_per_day(window=rules.window, run=rules.run, per_day=DAY)
    rtt: dict[str, Any] | None = None
    if real:
        bare = ShiftRules(step_ms=0.0, share=0.0)
        before = ShiftRules(share=0.1)
        rtt = {
            "stated_per_day": stated,
            "ranks_alone": _false_rtt(real, bare, options.days, 1),
            "with_margins": _false_rtt(real, rules, options.days, 2),
            "power": _power(real, rules),
            "power_margin_of_a_tenth": _power(real, before),
        }
    loss = _loss(max(10, options.days // 100))
    document: dict[str, Any] = {
        "claim": "false alarms of a link a day stay under 2e-4 for RTT and, where losses are independent, for loss",
        "ours": {"rtt": rtt, "loss": loss},
        "others": {},
        "ratio": {},
        "machine": {"python": platform.python_version(), "system": platform.platform()},
    }
    if options.json:
        print(json.dumps(document, indent=2))
        return
    if rtt is None:
        print("no real series here: no figures of RTT")
    else:
        print(f"RTT, real values in any order; stated {stated:.3g} false alarms a day at most:")
        for name in ("ranks_alone", "with_margins"):
            print(f"  {name.replace('_', ' ')}: {_said(rtt[name])}")
        for step, one in rtt["power"].items():
            print(f"  a step of {step.replace('_', ' ')}: found on {one['found_share']:.0%} of the links; missed for {one['missed_for']}")
    print(f"loss, simulated, 5 packets a minute; bound {loss['bound_per_day']:.2g} a day:")
    for p, one in loss["independent"].items():
        print(f"  {float(p):.1%} lost one by one: {one['computed_per_day']:.2g} a day by definition; {_said(one['simulated'])};")
        print(f"    at a limit for 20 a day: {one['loose_computed_per_day']:.3g} by definition; {_said(one['loose_simulated'])}")
    for name, one in loss["bursts"].items():
        print(f"  {name}: {_said(one)}, {one['outages']} of them outages")


def _said(rate: dict[str, float]) -> str:
    return f"{rate['count']} in {rate['days']:,.0f} days: {rate['per_day']:.3g} a day (95 %: {rate['low']:.3g} to {rate['high']:.3g})"


if __name__ == "__main__":
    main()
