"""Prices, devices, profiles, pools and workloads against figures read elsewhere."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from inventory.check import check
from inventory.load import BUILT_IN, load, read
from inventory.prices import in_usd
from records.errors import UnknownSite
from records.place import PROVIDERS

SHARED = Path(__file__).parents[2].parent / "shared" / "data"

#: TTFT at 1,024 tokens and TPOT at batch sizes, ms, of the published estimates the profiles are fitted to.
PUBLISHED_MS: dict[str, tuple[float, dict[int, float]]] = {
    "l4": (140, {1: 50.6, 8: 54.3, 32: 67.0}),
    "l40s": (70, {1: 22.0, 8: 23.6, 32: 32.2, 64: 39.7}),
    "a100-80": (65, {1: 11.9, 8: 12.7, 32: 16.0, 64: 18.4}),
    "h100": (22, {1: 6.2, 8: 6.7, 32: 8.5, 64: 10.6}),
    "h200": (21, {1: 4.9, 8: 5.1, 32: 6.4, 64: 7.8}),
}


@pytest.mark.parametrize(
    ("site", "scope", "month_gb", "usd"),
    [
        ("aws:us-east-1", "internet", 0, 0.09),
        ("aws:us-east-1", "internet", 10_239, 0.09),
        ("aws:us-east-1", "internet", 10_240, 0.085),
        ("aws:us-east-1", "internet", 60_000, 0.07),
        ("aws:us-east-1", "internet", 500_000, 0.05),
        ("aws:ap-southeast-1", "internet", 0, 0.12),
        ("aws:sa-east-1", "inter-region", 0, 0.138),
        ("aws:af-south-1", "internet", 0, 0.154),
        ("aws:af-south-1", "internet", 1e6, 0.154),  # only the first tier was read: an upper bound
        ("azure:westeurope", "internet", 0, 0.087),
        ("azure:southeastasia", "internet", 0, 0.12),
        ("azure:brazilsouth", "internet", 0, 0.181),
        ("gcp:asia-southeast1", "internet", 0, 0.12),
        ("gcp:europe-west3", "internet", 2000, 0.11),
        ("alibaba:cn-hongkong", "internet", 0, 0.156),
        ("alibaba:cn-beijing", "internet", 0, 0.123),
        ("oracle:us-ashburn-1", "internet", 0, 0.0085),
        ("oracle:sa-saopaulo-1", "internet", 0, 0.025),
        ("oracle:us-ashburn-1", "direct-connect", 0, 0.0),  # known to be free, which is not the same as not known
        ("tencent:ap-tokyo", "internet", 0, None),
        ("alibaba:cn-hongkong", "inter-region", 0, None),
        ("aws:mx-central-1", "internet", 0, None),  # does not inherit its provider's price
        ("sin", "internet", 0, None),
    ],
)
def test_egress_prices_are_the_published_ones(site: str, scope: str, month_gb: float, usd: float | None) -> None:
    """A price is the published one of its tier; what is not known is None."""
    assert load().egress_usd_per_gb(site, scope, month_gb) == usd  # type: ignore[arg-type]


def test_an_unknown_site_has_no_price_but_an_error() -> None:
    """A mistyped site is a mistake, not an unknown price."""
    with pytest.raises(UnknownSite, match=r"did you mean .*aws:us-east-1"):
        load().egress_usd_per_gb("aws:us-east-l")


def test_aws_prices_agree_with_the_skyplane_table() -> None:
    """Every AWS first-tier internet and inter-region price we know equals Skyplane's, read on its own."""
    path = SHARED / "skyplane" / "aws_transfer_costs.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not there: the public data sets are kept beside the project")
    inventory = load()
    compared = 0
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            site = inventory.resolve(f"aws:{row['src']}")
            if site is None or {row["src"], row["dst"]} == {"us-east-1", "us-east-2"}:
                continue  # government, and the one cheaper pair that a price without destination cannot hold
            ours = inventory.egress_usd_per_gb(site, "internet" if row["dst"] == "internet" else "inter-region")
            assert ours == float(row["cost"]), row
            compared += 1
    assert compared > 600


def test_prices_never_rise_with_volume() -> None:
    """Within one region and scope a later tier is never dearer, and the first tier begins at zero."""
    tiers: dict[tuple[str, str | None, str], list[tuple[float, float | None]]] = {}
    for price in load().egress:
        tiers.setdefault((price.provider, price.region, price.scope), []).append((price.from_gb_per_month, price.usd_per_gb))
    for key, found in tiers.items():
        assert found == sorted(found, key=lambda tier: tier[0]), key
        assert found[0][0] == 0, key
        known = [usd for _, usd in found if usd is not None]
        assert known == sorted(known, reverse=True), key


def test_every_region_has_a_word_on_every_scope() -> None:
    """For each region and scope there is a row, be it one that says: not known."""
    inventory = load()
    for site in inventory.regions:
        for scope in ("internet", "inter-region", "direct-connect"):
            assert any(p.provider == site.provider and p.region in (None, site.id) and p.scope == scope for p in inventory.egress)
    assert {price.provider for price in inventory.egress} == set(PROVIDERS)


def test_prices_are_plausible_and_say_where_they_are_from() -> None:
    """Per GB at most 0.5 USD, per device and hour from 1 cent to 20 USD; every known price has a source and a date."""
    inventory = load()
    for price in inventory.egress:
        assert price.usd_per_gb is None or 0 <= price.usd_per_gb <= 0.5, price
    for compute in inventory.compute:
        usd = in_usd(compute.price_per_hour, compute.currency, inventory.currencies)
        assert usd is None or 0.01 <= usd / compute.device_count <= 20, compute
        if compute.price_per_hour is None:
            assert compute.source.startswith("not known"), compute


def test_every_cloud_has_its_devices_and_a_small_vm_or_says_not_known() -> None:
    """Item 5 of the issue: GPU and VM hours for all six, none passed over in silence."""
    inventory = load()
    for provider in PROVIDERS:
        kinds = {inventory.accelerators[price.accelerator].kind for price in inventory.compute if price.provider == provider}
        assert {"gpu", "cpu"} <= kinds, provider


@pytest.mark.parametrize(
    ("accelerator", "site", "usd"),
    [
        ("h100", "aws:us-east-1", 6.88),
        ("h200", "aws:us-east-1", 63.296 / 8),
        ("h200", "aws:ap-northeast-2", 87.34848 / 8),
        ("l4", "aws:us-east-1", 0.8048),  # g6.xlarge, cheaper than gr6.4xlarge with the same device
        ("l4", "aws:eu-central-1", 1.9248),
        ("h100", "azure:eastus", 98.32 / 8),
        ("a100-80", "azure:eastus", 3.673),  # one on PCIe is cheaper than an eighth of eight
        ("l40s", "aws:eu-central-1", 3.75651),
        ("mi300x", "oracle:eu-frankfurt-1", 6.0),  # one list for every region
        ("a100-80", "tencent:ap-tokyo", 2.25),  # not known there: the accelerator's own price
        ("h100", "fra", 4.25),  # a PoP has no list
        ("cpu-epyc-9554", "fra", None),
    ],
)
def test_a_device_costs_what_the_list_of_its_region_says(accelerator: str, site: str, usd: float | None) -> None:
    """The least of the provider's instances there, by device; else the accelerator's own price; else not known."""
    assert load().device_usd_per_hour(accelerator, site) == pytest.approx(usd)


@pytest.mark.parametrize(
    ("site", "gb", "usd"),
    [
        # 10,240 x 0.09 + 40,960 x 0.085 + 102,400 x 0.07 + 494,400 x 0.05: the 1,000 cameras of the source material
        ("aws:us-east-1", 648_000, 921.6 + 3481.6 + 7168 + 24_720),
        ("aws:us-east-1", 6_480, 583.2),
        ("azure:westeurope", 648_000, 10_240 * 0.087 + 40_960 * 0.083 + 102_400 * 0.07 + 494_400 * 0.05),
        ("gcp:europe-west3", 648_000, 1024 * 0.12 + 9216 * 0.11 + 637_760 * 0.08),
        ("oracle:eu-frankfurt-1", 648_000, 648_000 * 0.0085),
        ("aws:us-east-1", 0, 0.0),
        ("tencent:ap-tokyo", 648_000, None),
        ("fra", 648_000, None),
    ],
)
def test_a_month_is_paid_tier_by_tier(site: str, gb: float, usd: float | None) -> None:
    """Worked by hand: each GB costs what its tier says, not all of them what the last one says."""
    assert load().egress_usd(site, gb) == pytest.approx(usd)


def test_a_list_in_another_currency_waits_for_a_dated_rate(tmp_path: Path) -> None:
    """0.80 CNY a GB are not known in USD until a rate is put into the table; no rate is invented."""
    assert load().egress_usd_per_gb("tencent:ap-guangzhou") is None
    assert {c for c, rate in load().currencies.items() if rate is not None} == {"USD"}
    own = tmp_path / "currencies.csv"
    own.write_text("currency,usd_per_unit,source,as_of\nCNY,0.14,a test,2026-11-26\n")
    assert read(BUILT_IN, own=tmp_path).egress_usd_per_gb("tencent:ap-guangzhou") == pytest.approx(0.112)


@pytest.mark.parametrize(
    ("name", "row", "says"),
    [
        ("egress_prices", "aws,,internet,100,0.09,s,2026,,", "from_gb_per_month 100: the first tier of aws / any / internet begins at 0"),
        (
            "egress_prices",
            "aws,,internet,0,0.09,s,2026,,\naws,,internet,50,0.08,s,2026,,\naws,,internet,20,0.07,s,2026,,",
            "20 is below the tier above, 50",
        ),
        ("egress_prices", "aws,,internet,0,90,s,2026,,", "usd_per_gb 90 is out of range; from 0 to 5"),
        ("egress_prices", "aws,,internet,0,0.09,s,2026,CNY,", "usd_per_gb is in USD, and currency says CNY"),
        ("egress_prices", "aws,,internet,0,,s,2026,,0.8", "price_per_gb is for lists in another currency than USD"),
        ("egress_prices", "aws,,internet,0,,s,2026,yuan,0.8", "currency 'yuan' is no ISO 4217 code"),
        ("compute_prices", "aws,aws:nowhere,x,h100,1,,1,USD,s,2026", "region 'aws:nowhere' is no region of aws"),
        ("compute_prices", "aws,,x,h900,1,,1,USD,s,2026", "accelerator 'h900' is not in the table of accelerators"),
        ("compute_prices", "aws,,x,h100,8,,5000,USD,s,2026", "price_per_hour 5000 is out of range"),
        ("currencies", "CNY,0,s,2026", "usd_per_unit 0 is out of range"),
    ],
)
def test_a_bad_price_is_named_by_its_line(tmp_path: Path, name: str, row: str, says: str) -> None:
    """Prices that cannot be, tiers out of order, currencies mixed up, references to what is not there."""
    header = {
        "egress_prices": "provider,region,scope,from_gb_per_month,usd_per_gb,source,as_of,currency,price_per_gb",
        "compute_prices": "provider,region,instance,accelerator,device_count,vcpus,price_per_hour,currency,source,as_of",
        "currencies": "currency,usd_per_unit,source,as_of",
    }[name]
    path = tmp_path / f"{name}.csv"
    path.write_text(f"{header}\n{row}\n")
    (checked,) = check([path], load())
    (fault,) = checked.faults
    assert fault.line == 1 + len(row.splitlines())
    assert says in fault.problem


@pytest.mark.parametrize("accelerator", PUBLISHED_MS)
def test_profiles_give_back_the_published_times(accelerator: str) -> None:
    """gamma + 1,024 delta is the published TTFT within 3 %, alpha + beta b the published TPOT within 7 %."""
    profile = next(p for p in load().profiles if p.accelerator == accelerator and p.model == "llama-3.1-8b")
    ttft_ms, tpot_ms = PUBLISHED_MS[accelerator]
    assert (profile.gamma_ns + 1024 * profile.delta_ns) / 1e6 == pytest.approx(ttft_ms, rel=0.03)
    for batch, published in tpot_ms.items():
        assert (profile.alpha_ns + batch * profile.beta_ns) / 1e6 == pytest.approx(published, rel=0.07)
    assert max(tpot_ms) == profile.max_batch


def test_devices_asked_for_are_there() -> None:
    """The table names the accelerators the routes choose among, and leaves a price that is not known empty."""
    accelerators = load().accelerators
    assert {"l4", "a10", "l40s", "a100-80", "h100", "h200", "mi300x", "cpu-epyc-9554", "cpu-vm-2"} <= accelerators.keys()
    assert accelerators["cpu-epyc-9554"].usd_per_hour is None
    assert 3.5 <= (accelerators["h100"].usd_per_hour or 0) <= 5.0


def test_the_lab_sites_that_serve_have_a_pool() -> None:
    """Every site the lab serves at has a pool, priced by its devices, with the profile of its accelerator."""
    inventory = load()
    assert {pool.site for pool in inventory.pools} >= {
        *("fra", "sin", "iad", "sjc", "aws:us-east-1", "azure:westeurope", "gcp:asia-southeast1"),
        *("alibaba:cn-hongkong", "tencent:ap-tokyo", "oracle:sa-saopaulo-1"),
    }
    for pool in inventory.pools:
        one = inventory.device_usd_per_hour(pool.accelerator, pool.site)
        assert one is not None
        assert pool.usd_per_hour == pool.device_count * one
        assert (pool.profile.accelerator, pool.profile.model) == (pool.accelerator, pool.model)


def test_edge_pools_stand_where_there_are_edge_gpus() -> None:
    """A pool at a PoP needs a PoP with the node class edge-gpu."""
    inventory = load()
    for pool in inventory.pools:
        if inventory.sites[pool.site].kind == "pop":
            assert "edge-gpu" in inventory.node_classes[pool.site]


def test_workloads_can_be_met_or_say_why() -> None:
    """A workload streams at least one token, names a model some pool serves, and batch has no budget."""
    inventory = load()
    served = {pool.model for pool in inventory.pools}
    assert {w.model for w in inventory.workloads.values()} <= served
    assert inventory.workloads["chat"].ttft_budget_ns == 500_000_000
    assert inventory.workloads["batch-summary"].ttft_budget_ns is None


def test_metros_carry_their_weight() -> None:
    """Sixty metros or more have a population, the largest is Tokyo with 37.4 million (UN, 2020)."""
    population = load().population
    assert len(population) >= 60
    assert max(population, key=population.__getitem__) == "metro:tokyo"
    assert population["metro:tokyo"] == 37_400_000
