"""Routes over links that agents measured in the lab, against what the lab's truth gives by trying everything."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest
from lab_measured import Measured
from lab_tools import MS, allowed_ms

from records.link import LinkEstimate
from routing.gates import GatePolicy, counts, grade
from routing.matrix import rows
from warehouse import open_warehouse
from warehouse.queries import link_estimates, sites

pytestmark = pytest.mark.lab

#: A median is above the least by jitter and by what a busy machine adds.
_BUSY_MS = 5.0


@pytest.fixture(scope="module")
def graded(measured: Measured) -> list[LinkEstimate]:
    """The measured links with their verdicts."""
    with open_warehouse(measured.warehouse) as reader:
        return grade(link_estimates(reader, now=datetime.now(UTC)), {site.id: site for site in sites(reader)}, GatePolicy())


def test_real_links_pass_every_gate(graded: list[LinkEstimate]) -> None:
    """Nothing in the lab is faster than light, stale or thin, and so says every verdict."""
    assert counts(graded) == {"ok": len(graded)}
    assert all(link.inflation is None or link.inflation >= 1 for link in graded)


def test_the_matrix_is_the_best_of_the_truth(measured: Measured, graded: list[LinkEstimate]) -> None:
    """For every pair: direct and best over one relay, as trying every relay over the configured RTTs gives them."""
    above_ms = {key: allowed_ms(truth) + 2 * truth.jitter_ns / MS + _BUSY_MS for key, truth in measured.truth.items()}
    least: dict[tuple[str, str], float] = {}
    most: dict[tuple[str, str], float] = {}
    for key, truth in measured.truth.items():
        pair = key[:2]
        least[pair] = min(least.get(pair, float("inf")), truth.rtt_min_ns / MS)
        most[pair] = min(most.get(pair, float("inf")), truth.rtt_max_ns / MS + above_ms[key])
    found = {(row.src, row.dst): row for row in rows(graded, relays=1, relay_ms=0.0)}
    assert found.keys() == set(itertools.permutations(measured.sites, 2))
    for (src, dst), row in found.items():
        ways = [((src, dst),), *(((src, relay), (relay, dst)) for relay in measured.sites if relay not in (src, dst))]
        joined = [way for way in ways if all(leg in least for leg in way)]
        assert row.best_ms is not None
        assert (
            min(sum(least[leg] for leg in way) for way in joined) - 0.001
            <= row.best_ms
            <= min(sum(most[leg] for leg in way) for way in joined)
        )
        if (src, dst) in least:
            assert row.direct_ms is not None
            assert least[src, dst] - 0.001 <= row.direct_ms <= most[src, dst]


def test_a_relay_that_wins_by_the_truth_wins_by_measurement(measured: Measured, graded: list[LinkEstimate]) -> None:
    """The pair that gains most from a relay is routed over it."""
    src, relay, dst = measured.relayed
    (row,) = [row for row in rows(graded, relays=1, relay_ms=0.0) if (row.src, row.dst) == (src, dst)]
    assert row.relays == (relay,)
    assert row.evidence == "measured"
