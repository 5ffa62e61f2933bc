"""What the demo world promises, checked with an independent formula for distance."""

from __future__ import annotations

import pytest
from lab_tools import floor_ms

from lab.topology import Topology, builtin
from lab.truth import PairTruth, pair_truths
from records.place import PROVIDERS


@pytest.fixture(scope="module")
def world() -> Topology:
    return builtin("demo-14")


@pytest.fixture(scope="module")
def truths(world: Topology) -> list[PairTruth]:
    return pair_truths(world)


def test_sites(world: Topology) -> None:
    """Eight PoPs and one region of each of the six clouds; every region and four PoPs serve."""
    pops = [site.id for site in world.sites if site.place.kind == "pop"]
    assert pops == ["sin", "fra", "iad", "sjc", "gru", "nrt", "syd", "jnb"]
    regions = [site for site in world.sites if site.place.kind == "region"]
    assert sorted(site.place.provider or "" for site in regions) == sorted(PROVIDERS)
    assert all(site.serves and site.id.partition(":")[0] == site.place.provider for site in regions)
    assert sum(site.serves for site in world.sites) == 10


def test_nothing_is_faster_than_light_in_fibre(world: Topology, truths: list[PairTruth]) -> None:
    """No configured RTT, on any medium, is below the fibre floor of the great circle; nor is any one-way delay below its half."""
    for pair in truths:
        floor = floor_ms(world, pair.src, pair.dst)
        assert pair.rtt_ns / 1e6 >= floor - 1e-6, pair
        assert min(pair.forward_ns, pair.reverse_ns) / 1e6 >= floor / 2 - 1e-6, pair


@pytest.mark.parametrize(("medium", "least", "most"), [("internet", 1.4, 2.75), ("backbone", 1.19, 1.38), ("direct-connect", 1.2, 1.5)])
def test_inflation_is_plausible(world: Topology, truths: list[PairTruth], medium: str, least: float, most: float) -> None:
    """Over long distances each medium is inflated as such networks are: the internet much, the backbone little."""
    found = [p.rtt_ns / 1e6 / floor for p in truths if p.medium == medium and (floor := floor_ms(world, p.src, p.dst)) > 3]
    assert found
    assert least <= min(found)
    assert max(found) <= most


def test_who_is_joined_to_whom(world: Topology, truths: list[PairTruth]) -> None:
    """The internet joins everyone, the backbone all PoPs and only them, direct connections PoPs and regions."""
    pops = {site.id for site in world.sites if site.place.kind == "pop"}
    pairs = {medium: {(p.src, p.dst) for p in truths if p.medium == medium} for medium in ("internet", "backbone", "direct-connect")}
    assert len(pairs["internet"]) == 14 * 13
    assert pairs["backbone"] == {(a, b) for a in pops for b in pops if a != b}
    assert len(pairs["direct-connect"]) == 16
    assert all((a in pops) != (b in pops) for a, b in pairs["direct-connect"])
    assert {b for a, b in pairs["direct-connect"] if a in pops} == {site.id for site in world.sites} - pops


def test_hop_lists_differ_between_media(truths: list[PairTruth]) -> None:
    """Internet paths pass 5 to 10 routers, and no router belongs to two media."""
    assert {len(p.hops) - 1 for p in truths if p.medium == "internet"} <= set(range(5, 11))
    routers = {
        medium: {hop for p in truths if p.medium == medium for hop in p.hops[:-1]} for medium in ("internet", "backbone", "direct-connect")
    }
    assert not routers["internet"] & routers["backbone"]
    assert not routers["backbone"] & routers["direct-connect"]


def test_a_relay_beats_the_direct_path(truths: list[PairTruth]) -> None:
    """From Johannesburg to Tokyo over the internet a relay at Singapore saves more than 50 ms, and by backbone more."""
    rtt_ms = {(p.src, p.dst, p.medium): p.rtt_ns / 1e6 for p in truths}
    direct = rtt_ms["jnb", "tencent:ap-tokyo", "internet"]
    assert rtt_ms["jnb", "sin", "internet"] + rtt_ms["sin", "tencent:ap-tokyo", "internet"] < direct - 50
    assert rtt_ms["jnb", "nrt", "backbone"] + rtt_ms["nrt", "tencent:ap-tokyo", "direct-connect"] < direct - 100


def test_some_links_are_asymmetric_lossy_and_slow(world: Topology, truths: list[PairTruth]) -> None:
    """At least one path takes longer one way, one loses packets, and rates lie between 100 Mbit/s and 1 Gbit/s."""
    assert any(abs(p.forward_ns - p.reverse_ns) > 2_000_000 for p in truths)
    assert any(0.005 < p.loss_ratio < 0.05 for p in truths)
    rates = {link.rate_bps for link in world.links if link.rate_bps is not None}
    assert (min(rates), max(rates)) == (100_000_000, 1_000_000_000)
