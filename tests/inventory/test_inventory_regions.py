"""The table of regions against other lists of the same facts, and against measured round trips."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from inventory.load import load
from records.place import Site, fibre_floor_ns, great_circle_km

SHARED = Path(__file__).parents[2].parent / "shared" / "data"

#: Where the public list and ours are more than 100 km apart, and why ours stands.
COORDINATES_DIFFER = {
    "aws:us-west-1": "the list has Northern California and Oregon exchanged",
    "aws:us-west-2": "the list has Northern California and Oregon exchanged",
    "aws:ap-east-2": "the list puts it in Auckland; ap-east-2 is Taipei, Auckland is ap-southeast-6",
    "aws:cn-northwest-1": "the list has Ningxiang in Hunan; the region is Zhongwei in Ningxia",
    "azure:eastus": "the list has Richmond; 1.7 ms from aws:us-east-1 says Northern Virginia",
    "azure:eastus2": "the list has Richmond; the data centres are at Boydton, 130 km to the south-west",
}

#: What the public list has and ours leaves out, by what the id begins with.
LEFT_OUT = {
    "aws:us-gov-": "government",
    "azure:usgov": "government",
    "azure:usdod": "government",
    "azure:ussec": "government",
    "oracle:au-gov-": "government",
    "oracle:uk-gov-": "government",
    "oracle:us-gov-": "government",
    "oracle:us-langley-1": "government",
    "oracle:us-luke-1": "government",
    "azure:eastus3": "not open",
    "azure:finlandcentral": "not open",
    "azure:greececentral": "not open",
    "azure:indiasouthcentral": "not open",
    "azure:saudiarabiasouthcentral": "not open",
    "azure:taiwannorth": "not open to the public",
    "alibaba:ap-south-1": "closed in 2024",
    "alibaba:ap-southeast-2": "closed in 2024",
}


def rows(name: str) -> list[dict[str, str]]:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{path} is not there: the public data sets are kept beside the project")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_cloud_has_its_regions() -> None:
    """Each of the six clouds has at least the number of regions its own list names."""
    counts = Counter(site.provider for site in load().regions)
    least = {"aws": 34, "azure": 55, "gcp": 42, "alibaba": 28, "tencent": 20, "oracle": 42}
    assert counts.keys() == least.keys()
    assert all(counts[provider] >= number for provider, number in least.items()), counts


def test_regions_stand_where_a_public_list_puts_them() -> None:
    """Every region also in the public list is within 100 km of it, or is a known difference with its reason."""
    inventory = load()
    far = set()
    for row in rows("cloud-regions/cloud_regions_6clouds_unique.csv"):
        name = f"{row['cloud']}:{row['region']}"
        if name.startswith(tuple(LEFT_OUT)):
            continue
        ours = inventory.site(name)
        theirs = Site(id="their", kind="region", name="", lat=float(row["lat"]), lon=float(row["lon"]))
        if great_circle_km(ours, theirs) > 100:
            far.add(ours.id)
    assert far == set(COORDINATES_DIFFER)


def test_what_is_left_out_is_really_not_there() -> None:
    """A region listed as left out is no site: the list of exceptions cannot outlive its reason."""
    assert [site.id for site in load().regions if site.id.startswith(tuple(LEFT_OUT))] == []


def test_azure_agrees_with_its_own_coordinates() -> None:
    """Azure's own coordinates, which name a state's or country's middle at times, are within 650 km of ours."""
    inventory = load()
    for row in rows("cloud-regions/azure_regions_official.csv"):
        site_id = inventory.resolve(f"azure:{row['region']}")
        if site_id is None:
            assert row["region"].endswith(("stg", "euap")) or row["region"] == "brazilus", row["region"]
            continue
        theirs = Site(id="their", kind="region", name="", lat=float(row["lat"]), lon=float(row["lon"]))
        assert great_circle_km(inventory.sites[site_id], theirs) < 650, site_id


def test_every_region_of_the_public_grids_resolves() -> None:
    """Every name in the Skyplane grids (zones too) and in the Azure matrix of 2026 is a region here."""
    inventory = load()
    names: set[str] = set()
    for row in rows("skyplane/latency_2022-04.csv") + rows("skyplane/throughput_2022-11.csv"):
        names |= {row["src_region"], row["dst_region"]}
    for row in rows("azure-latency-2026/azure_rtt_p95_2026-07-30_long.csv"):
        names |= {f"azure:{row['src']}", f"azure:{row['dst']}", row["src"], row["src_name"]}
    assert {name for name in names if inventory.resolve(name) is None} == set()
    assert inventory.resolve("gcp:europe-west6-a") == "gcp:europe-west6"


def test_no_measurement_between_aws_and_azure_beats_light() -> None:
    """Measured round trips check the coordinates: only rows with a Google end, known to be wrong, beat light in fibre."""
    inventory = load()
    impossible: Counter[bool] = Counter()
    for row in rows("skyplane/latency_2022-04.csv"):
        src, dst = inventory.site(row["src_region"]), inventory.site(row["dst_region"])
        if src.id != dst.id and float(row["min_rtt"]) * 1e6 < 0.98 * fibre_floor_ns(src, dst):
            impossible["gcp" in (src.provider, dst.provider)] += 1
    assert impossible[False] == 0
    assert 200 < impossible[True] < 300  # the grid's own note counts 243 with its coordinates


def test_no_round_trip_of_azure_in_2026_beats_light() -> None:
    """No 95th percentile that Microsoft publishes between 54 of its regions is below the fibre floor of our coordinates.

    The straightest pairs hold the coordinates tightest: more than a tenth are within 1.5 times their floor.
    """
    inventory = load()
    inflation = []
    for row in rows("azure-latency-2026/azure_rtt_p95_2026-07-30_long.csv"):
        src, dst = inventory.sites[f"azure:{row['src']}"], inventory.sites[f"azure:{row['dst']}"]
        if great_circle_km(src, dst) > 30:
            inflation.append((float(row["rtt_p95_ms"]) * 1e6 / fibre_floor_ns(src, dst), src.id, dst.id))
    assert len(inflation) > 2500
    assert [pair for pair in inflation if pair[0] < 0.98] == []
    assert sum(ratio < 1.5 for ratio, _, _ in inflation) > len(inflation) / 10


def test_the_demo_sites_are_here() -> None:
    """The lab's eight PoPs and six regions are in the inventory, one region a cloud."""
    inventory = load()
    assert {"sin", "fra", "iad", "sjc", "gru", "nrt", "syd", "jnb"} <= {site.id for site in inventory.pops}
    demo = ["aws:us-east-1", "azure:westeurope", "gcp:asia-southeast1", "alibaba:cn-hongkong", "tencent:ap-tokyo", "oracle:sa-saopaulo-1"]
    assert len({inventory.site(region).provider for region in demo}) == 6


def test_one_metro_is_one_place() -> None:
    """Sites that name the same metro in the same country are within 60 km of each other: no coordinate is mistyped."""
    first: dict[tuple[str | None, str | None], Site] = {}
    for site in load().sites.values():
        other = first.setdefault((site.metro, site.country), site)
        assert great_circle_km(site, other) < 60, (site, other)


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("sin", "sin"),
        (" SIN ", "sin"),
        ("AWS:us-east-1", "aws:us-east-1"),
        ("aws:us-east-1a", "aws:us-east-1"),
        ("gcp:us-east4-c", "gcp:us-east4"),
        ("us-east4-c", "gcp:us-east4"),
        ("google:us-east4", "gcp:us-east4"),
        ("alibaba:cn-hongkong-b", "alibaba:cn-hongkong"),
        ("aliyun:cn-hongkong", "alibaba:cn-hongkong"),
        ("tencent:ap-tokyo-2", "tencent:ap-tokyo"),
        ("oci:sa-saopaulo-1", "oracle:sa-saopaulo-1"),
        ("westeurope", "azure:westeurope"),
        ("West Europe", "azure:westeurope"),
        ("alibaba:cn-ulanqab", "alibaba:cn-wulanchabu"),
        ("us-east-1", None),  # AWS and Alibaba Cloud both have one
        ("Lagos", None),  # a PoP and a metro
        ("aws:us-east-99", None),
        ("oracle:sa-saopaulo", None),
        ("gcp:", None),
        ("", None),
        (":", None),
    ],
)
def test_names_resolve_when_they_mean_one_site(name: str, site: str | None) -> None:
    """Ids in any case, zones, other prefixes and display names resolve; a name of two sites, or of none, does not."""
    assert load().resolve(name) == site


def test_every_id_resolves_to_itself() -> None:
    """No alias or display name hides an id."""
    inventory = load()
    assert all(inventory.resolve(site_id) == site_id for site_id in inventory.sites)
