"""Our probes in the session's lab, against what its truth says of labels, equal paths and loss."""

from __future__ import annotations

import json
import sys

import pytest
from lab_tools import run_together, visible_paths

from lab.namespace_lab import NamespaceLab
from lab.truth import PairTruth

pytestmark = [pytest.mark.lab, pytest.mark.waits]

_OURS = (sys.executable, "-m", "app.cli")


@pytest.fixture(scope="module")
def truths(wan: NamespaceLab) -> list[PairTruth]:
    """All of the session's lab."""
    return wan.truth()


def test_flows_see_the_paths_of_equal_cost_and_the_labels_on_them(wan: NamespaceLab, truths: list[PairTruth]) -> None:
    """Of a pair with several paths 16 flows see more than one, each a path of the truth, with each router's MPLS labels."""
    truth = max((one for one in truths if one.medium == "backbone" and not one.loss_ratio), key=lambda one: one.path_count)
    assert truth.path_count > 1
    (text,) = run_together([wan.command(truth.src, [*_OURS, "traceroute", "--flows", "16", "--json", truth.address])])
    traces = [one["measurement"]["hops"] for one in json.loads(text)]
    seen = {tuple(hop.get("address") for hop in hops) for hops in traces}
    assert len(traces) == 16
    assert 1 < len(seen) <= truth.path_count
    assert seen <= set(visible_paths(truth))
    labels = {router.id: list(router.mpls) for router in wan.topology.routers}
    node_of = {address: node for path in truth.paths for node, address in zip(path.nodes, path.hops, strict=True)}
    expected = [[labels.get(node_of[hop["address"]], []) for hop in hops] for hops in traces]
    assert any(any(stacks) for stacks in expected)
    assert [[[entry["label"] for entry in hop["mpls"]] for hop in hops] for hops in traces] == expected


def test_loss_is_the_truth_over_both_ip_versions(wan: NamespaceLab, truths: list[PairTruth]) -> None:
    """300 packets over the lossiest path, by each version: within four standard deviations of the configured loss."""
    truth = max(truths, key=lambda one: one.loss_ratio)
    addresses = [truth.address, truth.address_v6 or truth.address]
    (text,) = run_together([wan.command(truth.src, [*_OURS, "ping", "-c", "300", "-i", "4ms", "--json", *addresses])])
    for one in json.loads(text):
        outcomes = [sample["outcome"] for sample in one["measurement"]["samples"]]
        assert len(outcomes) == 300
        spread = (300 * truth.loss_ratio * (1 - truth.loss_ratio)) ** 0.5
        assert abs(outcomes.count("timeout") - 300 * truth.loss_ratio) <= 4 * spread + 1
