"""Candidate sites for a placement from CSV: places of the inventory by id, or new ones with their coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from inventory.places import provider_of, site_from
from inventory.rows import BadRow, Faults, Row, read_table
from records.errors import InputError
from records.place import Site

__all__ = ["Candidate", "read"]

OPTIONAL_COLUMNS = ("name", "lat", "lon", "country", "capacity", "price_usd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A place where serving could be set up.

    site      its place; None where the file gives only the id, which something else must know
    capacity  people it can serve; None unlimited
    price_usd what it costs; None not said
    """

    id: str
    site: Site | None = None
    capacity: float | None = None
    price_usd: float | None = None


def read(path: str | Path) -> list[Candidate]:
    """The candidates of a CSV file with the header ``id`` and optionally ``name,lat,lon,country,capacity,price_usd``.

    A capacity or a price is given for every candidate or for none. Raises InputError that names every bad row.
    """
    faults = Faults()
    found = read_table(Path(path), ("id",), _candidate, lambda candidate: candidate.id, faults, optional=OPTIONAL_COLUMNS)
    faults.fail()
    if not found:
        raise InputError(path, None, "holds no candidate; give one row for each, with its id")
    for name in ("capacity", "price_usd"):
        given = sum(getattr(candidate, name) is not None for candidate in found)
        if 0 < given < len(found):
            missing = next(candidate.id for candidate in found if getattr(candidate, name) is None)
            raise InputError(
                path, None, f"{given} of {len(found)} candidates have a {name} and {missing} has none; give it for all or for none"
            )
    return found


def _candidate(row: Row) -> Candidate:
    name = row.text("id")
    placed = [row.optional(column) is not None for column in ("lat", "lon")]
    if any(placed) and not all(placed):
        raise BadRow(f"candidate {name!r} has only one of lat and lon; give both, or neither for a place of the inventory")
    return Candidate(
        id=name,
        site=site_from(row, "region" if provider_of(name) else "pop", provider=provider_of(name)) if all(placed) else None,
        capacity=row.optional_number("capacity", 0, 1e12),
        price_usd=row.optional_number("price_usd", 0, 1e12),
    )
