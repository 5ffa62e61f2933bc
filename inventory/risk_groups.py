"""Which sites fail together: a user's CSV of site and group (a cable, a power company, a landing station, a building)."""

from __future__ import annotations

from pathlib import Path

from inventory.rows import Faults, Row, read_table

__all__ = ["read"]


def read(path: str | Path) -> dict[str, frozenset[str]]:
    """Site id -> its groups, from a CSV file with the header ``site,group``; a site may have several rows.

    Raises InputError that names every bad row as file:line.
    """

    def pair(row: Row) -> tuple[str, str]:
        return row.text("site"), row.text("group")

    faults = Faults()
    found = read_table(Path(path), ("site", "group"), pair, lambda pair: pair, faults)
    faults.fail()
    groups: dict[str, set[str]] = {}
    for site, group in found:
        groups.setdefault(site, set()).add(group)
    return {site: frozenset(names) for site, names in groups.items()}
