"""The tables of prices: egress by monthly tier, instances by the hour, and the rates between currencies."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import cast

from inventory.rows import BadRow, Faults, Row, read_table
from records.place import PROVIDERS
from records.serving import ComputePrice, EgressPrice, EgressScope

__all__ = ["hourly_usd", "in_usd", "read_compute_prices", "read_currencies", "read_egress", "tiered_usd"]

EGRESS_COLUMNS = ("provider", "region", "scope", "from_gb_per_month", "usd_per_gb", "source", "as_of")
EGRESS_OPTIONAL = ("currency", "price_per_gb")
COMPUTE_COLUMNS = (
    *("provider", "region", "instance", "accelerator", "device_count", "vcpus", "price_per_hour", "currency"),
    *("source", "as_of"),
)
CURRENCY_COLUMNS = ("currency", "usd_per_unit", "source", "as_of")

SCOPES = ("internet", "inter-region", "direct-connect")

#: More than this for a GB is a price for a TB, or a slip of the pen: the dearest list price known is below 0.5 USD.
_MOST_PER_GB = 5.0
#: A machine of eight of the newest devices is below 200 USD an hour.
_MOST_PER_HOUR = 1000.0
_CURRENCY = re.compile(r"[A-Z]{3}")


def read_currencies(path: Path, faults: Faults) -> dict[str, float | None]:
    """Currency (ISO 4217) -> USD for one unit of it, from CSV; None where no dated rate is known; faults are noted."""

    def make(row: Row) -> tuple[str, float | None]:
        row.text("source")
        row.as_of()
        return _currency(row), row.optional_number("usd_per_unit", 1e-6, 1e3)

    return dict(read_table(path, CURRENCY_COLUMNS, make, lambda pair: pair[0], faults))


def in_usd(price: float | None, currency: str, rates: Mapping[str, float | None]) -> float | None:
    """A price in USD; None where it, or the rate of its currency, is not known.

    >>> in_usd(0.8, "CNY", {"CNY": None}), in_usd(2.0, "USD", {})
    (None, 2.0)
    """
    rate = 1.0 if currency == "USD" else rates.get(currency)
    return None if price is None or rate is None else price * rate


def read_egress(path: Path, sites: Container[str], rates: Mapping[str, float | None], faults: Faults) -> list[EgressPrice]:
    """Egress prices from CSV: a row each tier, the tiers of a meter in rising order from 0 on; faults are noted.

    An empty region is every region without rows of its own. A list in another currency has its figure in price_per_gb
    and usd_per_gb empty.
    """
    reached: dict[tuple[str, str | None, str], float] = {}

    def make(row: Row) -> EgressPrice:
        provider, region = row.one_of("provider", tuple(PROVIDERS)), _region(row, sites, faults)
        scope, begins = row.one_of("scope", SCOPES), row.number("from_gb_per_month", 0)
        usd = row.optional_number("usd_per_gb", 0, _MOST_PER_GB)
        currency = _currency(row) if row.optional("currency") else "USD"
        price = row.optional_number("price_per_gb", 0)
        if price is not None and (usd is not None or currency == "USD"):
            raise BadRow("price_per_gb is for lists in another currency than USD; a price in USD stands in usd_per_gb alone")
        if usd is not None and currency != "USD":
            raise BadRow(f"usd_per_gb is in USD, and currency says {currency}; a price in {currency} stands in price_per_gb")
        before = reached.get((provider, region, scope))
        if before is None and begins > 0:
            raise BadRow(f"from_gb_per_month {begins:g}: the first tier of {provider} / {region or 'any'} / {scope} begins at 0")
        if before is not None and begins < before:
            raise BadRow(f"from_gb_per_month {begins:g} is below the tier above, {before:g}; tiers stand in rising order")
        reached[provider, region, scope] = begins
        return EgressPrice(
            provider=provider,
            region=region,
            scope=cast("EgressScope", scope),
            from_gb_per_month=begins,
            usd_per_gb=usd if price is None else in_usd(price, currency, rates),
            source=row.text("source"),
            as_of=row.as_of(),
            currency=currency,
            price_per_gb=price,
        )

    return read_table(
        path, EGRESS_COLUMNS, make, lambda p: (p.provider, p.region, p.scope, p.from_gb_per_month), faults, optional=EGRESS_OPTIONAL
    )


def tiered_usd(tiers: Sequence[EgressPrice], month_gb: float) -> float | None:
    """What a month's bytes cost, each GB at the price of the tier it falls into; None where a tier that is reached is not known.

    tiers   of one meter, the first from 0 on, in any order; none at all is not known
    """
    ordered = sorted(tiers, key=lambda tier: tier.from_gb_per_month)
    total = 0.0
    for tier, following in zip_longest(ordered, ordered[1:]):
        ends = following.from_gb_per_month if following is not None else math.inf
        inside = min(month_gb, ends) - tier.from_gb_per_month
        if inside <= 0:
            continue
        if tier.usd_per_gb is None:
            return None
        total += inside * tier.usd_per_gb
    return total if ordered else None


def read_compute_prices(path: Path, sites: Container[str], accelerators: Container[str], faults: Faults) -> list[ComputePrice]:
    """Instance prices from CSV; an empty price is not known; faults are noted."""

    def make(row: Row) -> ComputePrice:
        accelerator = row.text("accelerator")
        if accelerator not in accelerators:
            raise faults.missing(accelerator, f"accelerator {accelerator!r} is not in the table of accelerators")
        return ComputePrice(
            provider=row.one_of("provider", tuple(PROVIDERS)),
            region=_region(row, sites, faults),
            instance=row.text("instance"),
            accelerator=accelerator,
            device_count=row.whole("device_count", 1),
            vcpus=row.whole("vcpus", 1) if row.optional("vcpus") else None,
            price_per_hour=row.optional_number("price_per_hour", 1e-4, _MOST_PER_HOUR * (1 if row.optional("currency") == "USD" else 1000)),
            currency=_currency(row),
            source=row.text("source"),
            as_of=row.as_of(),
        )

    return read_table(path, COMPUTE_COLUMNS, make, lambda p: (p.provider, p.region, p.instance, p.accelerator), faults)


def hourly_usd(prices: Sequence[ComputePrice], rates: Mapping[str, float | None], accelerator: str, region: str) -> float | None:
    """The least that one device costs an hour at a cloud region, by any instance with it; None where none is known.

    A region's own row of an instance comes before the provider's row of it for every region.
    """
    provider = region.partition(":")[0]
    chosen: dict[str, ComputePrice] = {}
    for price in prices:
        if price.provider == provider and price.accelerator == accelerator and price.region in (None, region):
            held = chosen.get(price.instance)
            chosen[price.instance] = price if held is None or price.region is not None else held
    known = [usd / p.device_count for p in chosen.values() if (usd := in_usd(p.price_per_hour, p.currency, rates)) is not None]
    return min(known, default=None)


def _currency(row: Row) -> str:
    value = row.text("currency")
    if not _CURRENCY.fullmatch(value):
        raise BadRow(f"currency {value!r} is no ISO 4217 code, such as USD or EUR")
    return value


def _region(row: Row, sites: Container[str], faults: Faults) -> str | None:
    region = row.optional("region")
    if region is not None:
        provider = row.one_of("provider", tuple(PROVIDERS))
        problem = f"region {region!r} is no region of {provider} in the inventory"
        if not region.startswith(f"{provider}:"):
            raise BadRow(problem)
        if region not in sites:
            raise faults.missing(region, problem)
    return region
