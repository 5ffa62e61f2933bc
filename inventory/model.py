"""The inventory: every place, price, device, profile, pool and workload that was read, and how to look them up."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from inventory.prices import hourly_usd, tiered_usd
from inventory.residency import Jurisdictions
from records.access import Endpoint, MediumLink, OnRamp
from records.errors import UnknownSite
from records.link import MEDIA, Medium
from records.place import PROVIDERS, Site
from records.residency import ResidencyRule
from records.serving import Accelerator, Application, ComputePrice, EgressPrice, EgressScope, Model, PerfProfile, ServingPool, Workload

__all__ = ["Inventory"]

#: Prefixes people write for a provider, beside the ones ids use.
_PROVIDER_NAMES = {
    "amazon": "aws",
    "microsoft": "azure",
    "google": "gcp",
    "googlecloud": "gcp",
    "aliyun": "alibaba",
    "alicloud": "alibaba",
    "qcloud": "tencent",
    "tencentcloud": "tencent",
    "oci": "oracle",
}

#: A zone's name and, as its group, the region's: gcp us-east4-a, aws us-east-1a, alibaba cn-hongkong-b, tencent ap-tokyo-2.
_ZONE = {
    "gcp": re.compile(r"(.+)-[a-z]"),
    "aws": re.compile(r"(.+\d)[a-z]"),
    "alibaba": re.compile(r"(.+)-[a-z]"),
    "tencent": re.compile(r"(.+)-\d{1,2}"),
    "azure": re.compile(r"(.+)-[1-3]"),
}


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What `inventory.load` read, checked: every reference between its tables holds.

    sites           every site by id; pops, regions, metros are the same by kind, in file order
    node_classes    PoP id -> what it can run work on (bare-metal, vm, edge-gpu); no entry where it is not known
    attachment      PoP id -> backbone or transit; no entry where it is not known
    population      metro id -> people, the weight of its demand; no entry where it is not known
    endpoints       hosts of regions that may be measured, the ones to prefer first
    onramps         where the clouds' private links are handed over
    links           which media join which sites, and what they cost
    accelerators, models   by id
    profiles        those of the table, then a roofline for all else that fits (inventory/roofline.py)
    pools, egress, compute   are tables; workloads and applications by name
    currencies      code -> USD for one unit, None where no rate is known
    jurisdictions   whose law holds in a country; rules are the residency rules by id
    """

    sites: dict[str, Site]
    node_classes: dict[str, tuple[str, ...]]
    attachment: dict[str, str]
    population: dict[str, int]
    aliases: dict[str, str]
    endpoints: list[Endpoint]
    onramps: list[OnRamp]
    links: list[MediumLink]
    accelerators: dict[str, Accelerator]
    models: dict[str, Model]
    profiles: list[PerfProfile]
    pools: list[ServingPool]
    workloads: dict[str, Workload]
    applications: dict[str, Application]
    egress: list[EgressPrice]
    compute: list[ComputePrice]
    currencies: dict[str, float | None]
    jurisdictions: Jurisdictions
    rules: dict[str, ResidencyRule]

    # Indices are made when they are first asked for: every command loads the inventory, few ask for all of it.

    @cached_property
    def _names(self) -> dict[str, str]:
        # Names that mean one site only: a bare region (westeurope, but not us-east-1, which two clouds have).
        owners: dict[str, set[str]] = {}
        for site in self.sites.values():
            bare = site.id.partition(":")[2] or site.id
            for name in {bare.lower(), site.name.lower()}:
                owners.setdefault(name, set()).add(site.id)
        names = {name: next(iter(ids)) for name, ids in owners.items() if len(ids) == 1}
        return names | self.aliases

    @cached_property
    def _media(self) -> dict[tuple[str, str], dict[Medium, MediumLink]]:
        media: dict[tuple[str, str], dict[Medium, MediumLink]] = {}
        for link in self.links:
            for ends in {(link.src, link.dst), (link.dst, link.src)}:
                media.setdefault(ends, {})[link.medium] = link
        return media

    def _of_kind(self, kind: str) -> list[Site]:
        return [site for site in self.sites.values() if site.kind == kind]

    @property
    def pops(self) -> list[Site]:
        """The PoPs of the reference fleet."""
        return self._of_kind("pop")

    @property
    def regions(self) -> list[Site]:
        """The cloud regions."""
        return self._of_kind("region")

    @property
    def metros(self) -> list[Site]:
        """The metros where users are."""
        return self._of_kind("metro")

    def resolve(self, name: str) -> str | None:
        """The id of the site a name means, None when it means none or more than one.

        Understands ids in any case, aliases, providers' other names (``google:``), zones (``gcp:europe-west6-a``,
        ``aws:us-east-1a``), and regions without a provider or by display name where only one site bears it.

        >>> from inventory.load import load
        >>> load().resolve("gcp:europe-west6-a"), load().resolve("westeurope"), load().resolve("us-east-1")
        ('gcp:europe-west6', 'azure:westeurope', None)
        """
        name = name.strip().lower()
        prefix, colon, rest = name.partition(":")
        if colon and prefix in _PROVIDER_NAMES:
            prefix = _PROVIDER_NAMES[prefix]
            name = f"{prefix}:{rest}"
        if name in self.sites:
            return name
        if name in self._names:
            return self._names[name]
        providers = [prefix] if colon else list(PROVIDERS)
        zone = rest if colon else name
        regions = {f"{p}:{match[1]}" for p in providers if p in _ZONE and (match := _ZONE[p].fullmatch(zone))} & self.sites.keys()
        return regions.pop() if len(regions) == 1 else None

    def site(self, name: str) -> Site:
        """The site a name means, as `resolve` reads names; raises UnknownSite with the nearest known ids."""
        found = self.resolve(name)
        if found is None:
            raise UnknownSite(name, self.sites)
        return self.sites[found]

    def jurisdiction_of(self, site: Site | str) -> str | None:
        """Whose law holds at a site: EU, GB, US, ..., by its country; None where the country is not known.

        Takes a Site as the warehouse may know one that the inventory does not; a name is read as `resolve` reads it
        and raises UnknownSite.

        >>> from inventory.load import load
        >>> [load().jurisdiction_of(site) for site in ("fra", "aws:eu-west-2", "alibaba:cn-hongkong", "gcp:us-east4")]
        ['EU', 'GB', 'HK', 'US']
        """
        country = (self.site(site) if isinstance(site, str) else site).country
        return None if country is None else self.jurisdictions.of(country)

    def endpoints_of(self, region: str) -> list[Endpoint]:
        """The hosts by which a region may be measured, the one to prefer first; none where none is known."""
        site_id = self.site(region).id
        return [endpoint for endpoint in self.endpoints if endpoint.region == site_id]

    def media_between(self, a: str, b: str) -> dict[Medium, MediumLink]:
        """The media that join two sites, by medium in the order of records.link.MEDIA; the same in both directions.

        Takes ids as they are. A site that the inventory does not know is on the internet where a row joins any two.
        """
        joined = self._media.get(("any", "any"), {}) | self._media.get((a, b), {})
        return {medium: joined[medium] for medium in MEDIA if medium in joined} if a != b else {}

    def link_usd_per_gb(self, link: MediumLink, month_gb: float = 0.0) -> float | None:
        """What a GB (10^9 bytes) that leaves a cloud over a private link costs in USD; None where it is not known.

        The link's own price where it has one (a contract), else the region's list price for direct connect at the
        tier that `month_gb` has reached. None for a backbone or the internet without a price of its own.
        """
        if link.usd_per_gb is not None or link.medium != "direct-connect":
            return link.usd_per_gb
        region = link.dst if self.sites[link.dst].kind == "region" else link.src
        return self.egress_usd_per_gb(region, "direct-connect", month_gb)

    def device_usd_per_hour(self, accelerator: str, site: str) -> float | None:
        """What one device costs an hour at a site, in USD: the provider's list there, else the accelerator's own price.

        Raises UnknownSite, and KeyError for an accelerator that is not in the table.
        """
        local = hourly_usd(self.compute, self.currencies, accelerator, self.site(site).id)
        return self.accelerators[accelerator].usd_per_hour if local is None else local

    def egress_usd_per_gb(self, site: str, scope: EgressScope = "internet", month_gb: float = 0.0) -> float | None:
        """What the next GB (10^9 bytes) that leaves a site costs in USD; None where it is not known.

        scope     internet, inter-region (to another region of the same provider), direct-connect
        month_gb  what has left already this month by the same meter, in GB: picks the tier

        A PoP or metro has no provider and so no price here: None. Free monthly allowances are per account, not per
        site, and stand outside the tiers (see inventory/README.md). Raises UnknownSite.
        """
        reached = [row for row in self._tiers(site, scope) if row.from_gb_per_month <= month_gb]
        return max(reached, key=lambda row: row.from_gb_per_month).usd_per_gb if reached else None

    def egress_usd(self, site: str, month_gb: float, scope: EgressScope = "internet") -> float | None:
        """What a month's bytes out of a site cost in USD, tier by tier; None where a tier that they reach is not known.

        A thousand cameras at 2 Mbit/s are 648 TB a month; all of them, and the hundredth of interest:

        >>> from inventory.load import load
        >>> [round(load().egress_usd("aws:us-east-1", gb)) for gb in (648_000, 6_480)]
        [36291, 583]

        Free allowances stand outside, as in `egress_usd_per_gb`. Raises UnknownSite.
        """
        return tiered_usd(self._tiers(site, scope), month_gb)

    def _tiers(self, site: str, scope: EgressScope) -> list[EgressPrice]:
        """The rows of a site's meter: its own, else its provider's; none for a place without a provider."""
        place = self.site(site)
        rows = [row for row in self.egress if row.provider == place.provider and row.scope == scope]
        return [row for row in rows if row.region == place.id] or [row for row in rows if row.region is None]
