"""Export: what networkx reads back from either file is what was written, to the last field."""

from __future__ import annotations

import json

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_kit import grid_links, grid_sites, link, site

from records.histogram import Histogram
from records.link import EVIDENCE, GATES, MEDIA, LinkEstimate
from routing.gates import grade
from routing.graph import links_of, to_graphml, to_networkx, to_node_link
from routing.media import quantile_ns
from routing.modelled import model_link

NS = st.none() | st.integers(1, 10**12)
LINKS = st.lists(
    st.builds(
        LinkEstimate,
        src=st.sampled_from(["a", "b", "aws:us-east-1"]),
        dst=st.sampled_from(["c", "<d&>"]),
        medium=st.sampled_from(MEDIA),
        rtt_min_ns=NS,
        rtt_p50_ns=NS,
        rtt_p95_ns=NS,
        loss_ratio=st.none() | st.floats(0, 1),
        throughput_bps=st.none() | st.floats(1, 1e12),
        sample_count=st.none() | st.integers(0, 10**9),
        age_s=st.none() | st.floats(0, 1e9),
        evidence=st.sampled_from(EVIDENCE),
        gate=st.sampled_from(sorted(GATES)),
        inflation=st.none() | st.floats(0, 100),
        histogram=st.none() | st.lists(st.integers(1, 10**10), min_size=1, max_size=5).map(Histogram.of),
    ),
    max_size=8,
    unique_by=lambda found: found.key,
)


@settings(max_examples=40, deadline=None)
@given(LINKS)
def test_both_files_read_back_equal(links):
    """Every field of every link, unknown ones unknown; parallel media stay parallel edges."""
    sites = {"a": site("a", 1.25, 103.5), "aws:us-east-1": site("aws:us-east-1", 39.0, -77.5)}
    graph = to_networkx(links, sites)
    from_json = nx.node_link_graph(json.loads(json.dumps(to_node_link(graph))), edges="edges")
    from_xml = nx.parse_graphml(to_graphml(graph), force_multigraph=True)
    by_key = sorted(links, key=lambda found: found.key)
    for read in (graph, from_json, from_xml):
        assert sorted(links_of(read), key=lambda found: found.key) == by_key
        for name in set(sites) & set(read):
            assert (read.nodes[name]["lat"], read.nodes[name]["kind"]) == (sites[name].lat, sites[name].kind)
    assert nx.utils.graphs_equal(from_json, nx.node_link_graph(to_node_link(graph), edges="edges"))


def test_the_public_grid_with_its_models_survives_graphml():
    """Every eighth measured link, of which some are gated, and a model: equal after networkx wrote and read them."""
    (premium,) = grid_links(premium=True)
    sites = grid_sites()
    links = [*grade(premium, sites)[::8], model_link(site("a", 1, 2), site("b", 3, 4), medium="backbone")]
    read = nx.parse_graphml(to_graphml(to_networkx(links, sites)), force_multigraph=True)
    assert sorted(links_of(read), key=lambda found: found.key) == sorted(links, key=lambda found: found.key)


def test_a_quantile_is_the_links_own_or_the_histograms():
    """Named ones as they are; others within 1 % of the samples; unknown without samples."""
    measured = link("a", "b", 20, rtt_p95_ns=90_000_000, histogram=Histogram.of([10_000_000] * 80 + [50_000_000] * 20))
    assert quantile_ns(measured, 0.5) == 20_000_000
    assert quantile_ns(measured, 0.95) == 90_000_000
    assert quantile_ns(measured, 0.9) == pytest.approx(50_000_000, rel=0.01)
    assert quantile_ns(link("a", "b", 20), 0.9) is None
    assert quantile_ns(link("a", "b", 20), 0.99) is None


def test_a_model_takes_the_inflation_of_its_medium():
    """Backbone 1.75, internet 1.8, and what is asked for."""
    ends = site("a", 0, 0), site("b", 0, 60)
    assert model_link(*ends).inflation == pytest.approx(1.8)
    assert model_link(*ends, medium="backbone").inflation == pytest.approx(1.75)
    assert model_link(*ends, medium="backbone", inflation=2.0, inflation_p95=2.5).inflation == pytest.approx(2.0)
