"""What agents measured in the lab, as the warehouse keeps it, against the lab's truth."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from lab_measured import Measured
from lab_tools import MS, allowed_ms, visible_paths

from records.measurement import TracerouteResult
from warehouse import Warehouse, open_warehouse
from warehouse.queries import delivery, latest_paths, link_estimates

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def kept(measured: Measured) -> Iterator[Warehouse]:
    """The warehouse that the agents filled."""
    with open_warehouse(measured.warehouse) as reader:
        yield reader


def test_everything_that_agents_made_is_kept_once(measured: Measured, kept: Warehouse) -> None:
    """For every agent and probe type as many measurements are kept as the agent counted, and none twice."""
    rows = delivery(kept).to_pylist()
    assert {(row["agent"], row["probe_type"]) for row in rows if row["stored"]} == {
        (site, probe) for site in measured.sites for probe in ("ping", "traceroute")
    }
    for row in rows:
        assert (row["stored"], row["duplicated"]) == (row["produced"], 0)


def test_estimates_are_the_truth(measured: Measured, kept: Warehouse) -> None:
    """Every pair and medium has an estimate whose least RTT is the configured one, and no pair has one that is not joined."""
    estimates = {link.key: link for link in link_estimates(kept, now=datetime.now(UTC))}
    assert estimates.keys() == measured.truth.keys()
    for key, truth in measured.truth.items():
        least_ns = estimates[key].rtt_min_ns
        assert least_ns is not None
        # A microsecond below is the rounding of two stamps.
        assert (least_ns - truth.rtt_min_ns) / MS >= -0.001, key
        assert (least_ns - truth.rtt_max_ns) / MS <= allowed_ms(truth), key


def test_paths_are_the_hops_of_the_truth(measured: Measured, kept: Warehouse) -> None:
    """The latest traceroute of every pair and medium names the routers of the truth in their order, and then the target."""
    wrong = {}
    for (src, dst, medium), truth in measured.truth.items():
        (path,) = latest_paths(kept, src, dst, medium)
        assert isinstance(path, TracerouteResult)
        seen = tuple(hop.address for hop in path.hops)
        # On a path that loses packets a hop may have been silent twice.
        if not any(
            len(seen) == len(hops) and all(mine in (None, theirs) for mine, theirs in zip(seen, hops, strict=True))
            for hops in visible_paths(truth)
        ):
            wrong[src, dst, medium] = seen
    assert wrong == {}
