"""Endpoints, on-ramps and links: whether they hang together, and what is known not to be known."""

from __future__ import annotations

import re
from collections import Counter

import networkx as nx
import pytest

from inventory.load import load
from records.place import Site, great_circle_km

#: Regions for which no public host is known: Azure in China, whose monitoring has no host by region, and one of Tencent's.
NO_ENDPOINT = {
    *(f"azure:china{name}" for name in ("east", "east2", "east3", "north", "north2", "north3")),
    "tencent:ap-shenzhen",
}

#: What a host of a provider ends in, by its own naming scheme.
SUFFIXES = {
    "aws": (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu"),
    "azure": (".livediagnostics.monitor.azure.com", ".api.cognitive.microsoft.com"),
    "gcp": (".rep.googleapis.com",),
    "alibaba": (".aliyuncs.com",),
    "tencent": (".myqcloud.com", ".tencentcloudapi.com"),
    "oracle": (".oraclecloud.com", ".oraclecloud.eu", ".oraclecloud20.com"),
}


def place(lat: float, lon: float) -> Site:
    return Site(id="here", kind="metro", name="", lat=lat, lon=lon)


def test_every_region_but_those_counted_has_a_host_that_ends_in_it() -> None:
    """239 of 246 regions have an endpoint; the first of each ends in the region, so that its RTT is the region's."""
    inventory = load()
    without = {region.id for region in inventory.regions if not inventory.endpoints_of(region.id)}
    assert without == NO_ENDPOINT
    assert {e.region for e in inventory.endpoints if e.terminates == "region"} == {r.id for r in inventory.regions} - NO_ENDPOINT
    assert all(inventory.endpoints_of(region.id)[0].terminates == "region" for region in inventory.regions if region.id not in without)


def test_every_host_names_its_region_and_no_other() -> None:
    """A host has the region's own name between dots or dashes, its provider's suffix, and belongs to one region."""
    inventory = load()
    for endpoint in inventory.endpoints:
        provider, _, region = endpoint.region.partition(":")
        assert endpoint.host.endswith(SUFFIXES[provider]), endpoint
        assert re.search(rf"(^|[.-]){re.escape(region)}\.", endpoint.host), endpoint
        assert endpoint.port == 443
    hosts = Counter(endpoint.host for endpoint in inventory.endpoints)
    assert hosts.most_common(1)[0][1] == 1


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("aws:us-east-1", "dynamodb.us-east-1.amazonaws.com"),
        ("aws:cn-north-1", "dynamodb.cn-north-1.amazonaws.com.cn"),  # a partition of its own
        ("gcp:me-central2", "logging.me-central2.rep.googleapis.com"),
        ("azure:westus2", "westus2.livediagnostics.monitor.azure.com"),
        ("alibaba:cn-hongkong", "oss-cn-hongkong.aliyuncs.com"),
        ("tencent:ap-tokyo", "cos.ap-tokyo.myqcloud.com"),
        ("oracle:us-ashburn-1", "objectstorage.us-ashburn-1.oraclecloud.com"),
        ("oracle:eu-frankfurt-2", "objectstorage.eu-frankfurt-2.oraclecloud.eu"),  # a realm of its own
    ],
)
def test_hosts_are_those_the_providers_document(region: str, host: str) -> None:
    """One host of each naming scheme, as the provider's documentation writes it."""
    assert load().endpoints_of(region)[0].host == host


def test_every_cloud_has_on_ramps_where_its_metro_is() -> None:
    """Each cloud hands over in at least 15 metros; an on-ramp that names a metro of ours stands within 60 km of it."""
    inventory = load()
    counts = Counter(ramp.provider for ramp in inventory.onramps)
    assert counts.keys() == {"aws", "azure", "gcp", "alibaba", "tencent", "oracle"}
    assert min(counts.values()) >= 15, counts
    metros = {(site.metro, site.country): site for site in inventory.sites.values()}
    for ramp in inventory.onramps:
        assert great_circle_km(place(ramp.lat, ramp.lon), metros[ramp.metro, ramp.country]) < 60, ramp


def test_on_ramps_stay_within_a_partition() -> None:
    """China's regions of AWS and Azure are reached from on-ramps in China only, and those reach no other."""
    inventory = load()
    for ramp in inventory.onramps:
        if ramp.provider in {"aws", "azure"}:
            assert ramp.regions is not None
            assert {inventory.sites[region].country == "CN" for region in ramp.regions} == {ramp.country == "CN"}, ramp


def test_the_backbone_joins_every_pop_that_is_on_it() -> None:
    """The backbone is one piece, holds every PoP of attachment backbone, and no PoP on transit."""
    inventory = load()
    graph = nx.Graph((link.src, link.dst) for link in inventory.links if link.medium == "backbone")
    assert nx.is_connected(graph)
    assert set(graph) == {pop for pop, attachment in inventory.attachment.items() if attachment == "backbone"}


def test_private_links_stand_at_on_ramps() -> None:
    """Each direct-connect link is from a PoP within 60 km of an on-ramp of that cloud that reaches the region."""
    inventory = load()
    for link in inventory.links:
        if link.medium == "direct-connect":
            pop, region = inventory.sites[link.src], inventory.sites[link.dst]
            assert any(
                ramp.provider == region.provider
                and (ramp.regions is None or region.id in ramp.regions)
                and great_circle_km(place(ramp.lat, ramp.lon), pop) <= 60
                for ramp in inventory.onramps
            ), link


def test_a_known_port_price_says_its_currency_and_where_it_is_from() -> None:
    """List prices are in USD, without commitment, from memory as they say; no backbone circuit claims a price."""
    links = load().links
    priced = [link for link in links if link.port_usd_per_month is not None]
    assert {link.medium for link in priced} == {"direct-connect"}
    assert {(link.currency, link.commitment_months) for link in priced} == {("USD", 0)}
    assert all("from memory" in link.source for link in priced)
    # 730 hours a month at the hourly list prices of a 10 Gbit/s port: AWS 2.25, Google 2.328, Oracle 1.275 USD.
    by_provider = {link.dst.partition(":")[0]: (link.capacity_bps, link.port_usd_per_month) for link in priced}
    assert by_provider["aws"] == (10_000_000_000, 1642.5)
    assert by_provider["gcp"] == (10_000_000_000, 1699.44)
    assert by_provider["oracle"] == (10_000_000_000, 930.75)


def test_media_between_sites() -> None:
    """The internet joins any two sites, also unknown ones; the backbone two PoPs, a private link a PoP and a region; not a site itself."""
    inventory = load()
    assert list(inventory.media_between("lhr", "ewr")) == ["internet", "backbone"]
    assert inventory.media_between("ewr", "lhr") == inventory.media_between("lhr", "ewr")
    assert list(inventory.media_between("iad", "aws:us-east-1")) == ["internet", "direct-connect"]
    assert list(inventory.media_between("aws:us-east-1", "azure:eastus")) == ["internet"]
    assert list(inventory.media_between("pvg", "lhr")) == ["internet"]  # transit only
    assert list(inventory.media_between("my-lab", "lhr")) == ["internet"]
    assert inventory.media_between("lhr", "lhr") == {}


def test_a_private_gb_costs_what_the_link_says_else_what_the_cloud_lists() -> None:
    """The price of a GB over a private link is its own where it has one, else the region's for direct connect; None is not known."""
    inventory = load()
    link = inventory.media_between("iad", "aws:us-east-1")["direct-connect"]
    assert link.usd_per_gb is None
    assert inventory.link_usd_per_gb(link) == inventory.egress_usd_per_gb("aws:us-east-1", "direct-connect") == 0.02
    assert inventory.link_usd_per_gb(inventory.media_between("lhr", "ewr")["backbone"]) is None
    tencent = next(link for link in inventory.links if link.dst.startswith("tencent:"))
    assert inventory.link_usd_per_gb(tencent) is None
