"""What has changed: links of the last hour, two traces side by side, path changes on a pair's axis, why a route is not the first."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dashboard_seed
import pytest
from test_app_pages import Open, _figures, opened, world  # noqa: F401  fixtures

from app import data, identity, standing
from app.charts.hops import change_times, diff_rows
from app.identity import by_identity
from records.link import LinkEstimate
from records.measurement import Hop, TracerouteResult
from records.units import MS


def trace(*addresses: str | None) -> TracerouteResult:
    """A trace through these routers, 10 ms each; None is silent."""
    hops = tuple(
        Hop(
            ttl=ttl,
            address=address,
            rtt_ns=None if address is None else ttl * 10 * MS,
            probes=1,
            replies=0 if address is None else 1,
            ts_source=None if address is None else "kernel_rx",
            icmp_type=None if address is None else 11,
            icmp_code=None if address is None else 0,
        )
        for ttl, address in enumerate(addresses, start=1)
    )
    return TracerouteResult(
        id="1", agent="a", src="sin", dst="fra", medium="internet", target="t", started_at_ns=1, engine="e", protocol="icmp", flow=0,
        hops=hops, reached=True, path_hash="h",
    )  # fmt: skip


def test_two_traces_are_aligned_by_their_routers() -> None:
    """A router that is new moves the rest down without making them different; a silent one says nothing."""
    rows = diff_rows(trace("r1", "r2", "r3", None, "end"), trace("r1", "x", "r2", "y", None, "end"))
    assert [(row["mark"], row["router_before"], row["router_after"]) for row in rows] == [
        ("=", "r1", "r1"),
        ("+", None, "x"),
        ("=", "r2", "r2"),
        ("≠", "r3", "y"),
        ("=", "no answer", "no answer"),
        ("=", "end", "end"),
    ]
    assert rows[2]["change_ms"] == 10.0
    assert [row["mark"] for row in diff_rows(trace("r1", "r2"), trace("r1", None))] == ["=", "?"]


def test_links_that_say_the_same_are_the_same_tuple() -> None:
    """So that what was drawn of them is kept (by identity); of another source, another window or with another number they are not."""
    first = tuple(LinkEstimate(src="a", dst=name, medium="internet", evidence="measured", rtt_p50_ns=1) for name in "bcd")
    again = replace_all(first)
    assert data._same(("w", 1), None, first) is first
    assert data._same(("w", 1), None, again) is first
    assert data._same(("w", 2), None, again) is again
    assert data._same(("w", 1), timedelta(hours=1), again) is again
    moved = (*first[:2], replace(first[2], rtt_p50_ns=2))
    assert data._same(("w", 1), None, moved) is moved
    assert data._same(("w", 1), None, replace_all(moved)) is moved
    for number in range(20):
        data._same(("other", number), None, first)
    assert len(data._before) <= 8


def test_of_many_links_few_versions_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fleet of hundreds of PoPs has other links with every tick: what is made of them is let go of together with them."""
    monkeypatch.setattr(identity, "MOST_ITEMS", 250)

    class Version(list[int]):  # unlike a tuple, it can be watched
        pass

    made = by_identity(16)(lambda first, factor: [factor * len(first)])
    watched = []
    for tick in range(9):
        version = Version(range(100))
        assert made(version, 1) == [100]
        assert made(version, tick) is made(version, tick)
        watched.append(weakref.ref(version))
    del version
    gc.collect()
    assert [one() is not None for one in watched] == [False] * 7 + [True] * 2

    links = tuple(LinkEstimate(src="a", dst=str(name), medium="internet", evidence="measured", rtt_p50_ns=1) for name in range(100))
    for number in range(9):
        data._same(("many", number), None, replace_all(links))
    assert sum(len(one) for one in data._before.values()) <= 250


def replace_all(links: tuple[LinkEstimate, ...]) -> tuple[LinkEstimate, ...]:
    """The same links as objects of their own."""
    return tuple(replace(link) for link in links)


def test_a_change_is_told_by_flow() -> None:
    """Flows of different paths are no change; a flow's new path is, once."""
    history: dict[str, list[Any]] = {"started_at": [4, 1, 2, 3, 5], "flow": [0, 0, 1, 0, 1], "path_hash": ["b", "a", "x", "b", "x"]}
    assert change_times(history) == [(3, 0, "b")]


def test_the_last_hour_is_held_to_the_day_before() -> None:
    """Beyond 2 ms, 5 % and three times the noise; a loss of a hundredth; a path change: each by hand."""
    links: dict[str, list[Any]] = {
        "src": ["a", "b", "c", "d", "e"],
        "dst": ["z"] * 5,
        "medium": ["internet"] * 5,
        "was_ms": [100.0, 100.0, 100.0, 20.0, 20.0],
        "now_ms": [106.0, 104.0, 110.0, 20.0, 20.1],
        "change_ms": [6.0, 4.0, 10.0, 0.0, 0.1],
        "was_mad_ms": [0.5, 0.5, 3.0, 0.1, 0.1],
        "was_loss": [0.0, 0.0, 0.0, 0.0, None],
        "now_loss": [0.0, 0.0, 0.0, 0.02, None],
    }
    paths: dict[str, list[Any]] = {
        "src": ["e"],
        "dst": ["z"],
        "medium": ["internet"],
        "changes": [3],
        "last_at": [datetime(2026, 1, 1, tzinfo=UTC)],
    }
    table = standing.changes_of(links, paths)
    # a moved by 6 of 100 with little noise; b by 4 %, c within three times its noise of 4.4 ms; d lost 2 points; e changed its path.
    assert table["from"] == ["d", "a", "e"]
    assert table["path"] == [None, None, 3]
    assert table["loss"][0] == 2.0


def test_pair_marks_path_changes_on_its_axis(opened: Open, world: Path) -> None:  # noqa: F811
    """The pair whose path was changed half-way has a mark for each flow near the middle of what was measured."""
    src, dst = dashboard_seed.FAULTS["changed"]
    figure = _figures(opened(world, "pair", src=src, dst=dst))[0]
    (marks,) = [found for found in figure["data"] if found.get("name") == "path change"]
    assert len(marks["x"]) == 2
    other = _figures(opened(world, "pair", src="fra", dst="iad"))[0]
    assert not [found for found in other["data"] if found.get("name") == "path change"]


def test_paths_compares_two_times(opened: Open, world: Path) -> None:  # noqa: F811
    """The diff opens at the change that was put in: hops 3 to 6 go another way, but for the silent fifth; the rest is the same."""
    src, dst = dashboard_seed.FAULTS["changed"]
    table = opened(world, "paths", src=src, dst=dst).dataframe[1].value
    assert table["mark"].tolist() == ["=", "=", "≠", "≠", "=", "≠", "="]


def test_routes_says_why_not_the_others_and_keeps_the_law(opened: Open, world: Path) -> None:  # noqa: F811
    """Each route but the first has its sentence; under GDPR's mask a request of Frankfurt is served inside the EEA only."""
    at = opened(world, "routes", src="gru")
    rows = at.dataframe[0].value
    reasons = next(line.value for line in at.markdown if line.value.startswith("- **2**"))
    assert reasons.count("\n") == len(rows) - 2
    at = opened(world, "routes", src="fra", rules="gdpr")
    served = at.dataframe[0].value["route"].tolist()
    assert served
    assert all(route.split(" → ")[-1] in ("fra", "azure:westeurope") for route in served)
