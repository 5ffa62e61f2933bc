"""Samples of several links by time bucket: as Python would group them, from raw rows and from roll-ups, and on into a route."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from warehouse_builders import NOW, ping, put, report

from app.commands.route import route as command
from records.histogram import Histogram
from records.link import Grain
from warehouse import Warehouse, open_warehouse
from warehouse.moments import link_moments
from warehouse.rollup import rollup

pytestmark = pytest.mark.usefixtures("all_cores")

KEYS = [("sin", "fra", "internet"), ("sin", "iad", "internet")]


def by_hand(rounds, width_s: int) -> dict[tuple[str, str, str], dict[int, Histogram]]:
    found: dict[tuple[str, str, str], dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for result in rounds:
        for sample in result.samples:
            if sample.rtt_ns is not None:
                at = sample.sent_at_ns // (width_s * 10**9) * width_s
                found[result.src, result.dst, result.medium][at].append(sample.rtt_ns)
    return {key: {at: Histogram.of(rtts) for at, rtts in moments.items()} for key, moments in found.items()}


def test_the_samples_of_each_time_bucket_are_pythons(shared: Warehouse) -> None:
    """A lost packet is none, a degraded agent's count only where there are no others; links not asked for are not there."""
    rng = random.Random(5)
    rounds = [
        ping(n, [rng.choice([None, rng.randint(10**6, 10**8)]) for _ in range(4)], at=NOW - timedelta(minutes=2 * n, seconds=7), dst=dst)
        for n, dst in enumerate(["fra", "iad", "syd"] * 12, start=1)
    ]
    with shared.transaction() as cursor:
        rolled = ("rollup_minute", "rollup_hour", "rollup_day", "rollup_touched", "rollup_touched_day", "rollup_degraded")
        for name in ("ping_sample", "agent_status", *rolled):
            cursor.execute(f"DELETE FROM {name}")  # noqa: S608 - the names are ours
    put(shared, *rounds, report(NOW - timedelta(minutes=1), grade="degraded", agent="sin-2"))
    put(shared, ping(900, [5] * 4, at=NOW - timedelta(minutes=3), agent="sin-2"))
    truth = by_hand([one for one in rounds if one.dst != "syd"], 60)
    assert link_moments(shared, KEYS, now=NOW, window=timedelta(hours=4)) == truth
    assert link_moments(shared, [], now=NOW) == {}
    assert link_moments(shared, [("sin", "o'hare", "internet")], now=NOW) == {}
    rollup(shared, now=NOW)
    late = ping(901, [7], at=NOW - timedelta(minutes=5))  # after the pass
    put(shared, late)
    kept = [*(one for one in rounds if one.dst != "syd"), late]
    wide: list[tuple[Grain, int]] = [("minute", 60), ("hour", 3600)]
    for grain, width_s in wide:
        found = link_moments(shared, KEYS, now=NOW, window=timedelta(hours=4), grain=grain)
        assert found == by_hand(kept, width_s)


def test_buckets_widen_with_the_span(wh: Warehouse) -> None:
    """Two days of samples come in quarters of an hour."""
    rounds = [ping(n, [10**7], at=NOW - timedelta(hours=4 * n)) for n in range(1, 13)]
    put(wh, *rounds)
    assert link_moments(wh, KEYS, now=NOW) == by_hand(rounds, 900)


def test_a_route_replays_what_its_legs_did_at_the_same_time(tmp_path: Path) -> None:
    """Both legs slow in the same tenth of the minutes: the p95 of their sum is that of the slow minutes. Apart it is not."""
    for name, slow_at, method, p95_ms in (("together", (0, 0), "replay", 410.5), ("few", (0, 0), "monte_carlo", None)):
        minutes = range(20) if name == "together" else range(5)
        with open_warehouse(tmp_path / name, mode="write") as wh:
            rounds = []
            for minute in minutes:
                at = NOW - timedelta(minutes=minute + 2)
                for leg, (src, dst, ms) in enumerate((("per", "sin", 50), ("sin", "fra", 160))):
                    rtt_ns = (ms + (100 if minute % 10 == slow_at[leg] else 0)) * 10**6
                    rounds.append(ping(100 * minute + leg, [rtt_ns] * 5, at=at, src=src, dst=dst, agent=f"{src}-1"))
            put(wh, *rounds)
        asked = [
            "--from",
            "per",
            "--to",
            "fra",
            "-k",
            "2",
            "--measured-only",
            "--json",
            "--window",
            "all",
            "--max-age",
            "all",
            "--warehouse",
            str(tmp_path / name),
        ]
        done = CliRunner().invoke(command, asked, catch_exceptions=False)
        (route,) = json.loads(done.stdout)["routes"]
        assert route["sites"] == ["per", "sin", "fra"]
        assert route["quantile_method"] == method
        if p95_ms is not None:
            assert route["moments"] in (20, 21)  # a round may lie across two minutes
            assert abs(route["rtt_ms"]["p95"] - p95_ms) <= 0.01 * p95_ms
            assert abs(route["rtt_ms"]["p50"] - 210.5) <= 0.01 * 210.5
