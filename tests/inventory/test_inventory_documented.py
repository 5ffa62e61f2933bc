"""inventory/README.md against the tables: every table and column is documented, and nothing that is not there."""

from __future__ import annotations

import csv
import re

from inventory.load import BUILT_IN


def documented() -> dict[str, set[str]]:
    """Table -> the columns that its part of the README names in the first cell of a row."""
    text = (BUILT_IN / "README.md").read_text(encoding="utf-8")
    found: dict[str, set[str]] = {}
    for title, body in re.findall(r"^### (.+)\n((?:(?!^#).*\n?)*)", text, flags=re.MULTILINE):
        columns = {name for row in re.findall(r"^\| (`.+?) \|", body, flags=re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
        for table in re.findall(r"(\w+)\.csv", title):
            found[table] = columns
    return found


def test_every_column_of_every_table_is_documented() -> None:
    """Each built-in table has its part, which names each of its columns with unit, meaning and what empty means."""
    parts = documented()
    for path in sorted(BUILT_IN.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            header = set(next(csv.reader(file)))
        assert header <= parts.get(path.stem, set()), (path.name, header - parts.get(path.stem, set()))


def test_nothing_is_documented_that_is_not_there() -> None:
    """No part is about a table that is gone, or names a column that no table of its title has."""
    parts = documented()
    assert parts.keys() == {path.stem for path in BUILT_IN.glob("*.csv")}
    everything = {name for path in BUILT_IN.glob("*.csv") for name in path.read_text(encoding="utf-8").partition("\n")[0].split(",")}
    assert {column for columns in parts.values() for column in columns} <= everything


def test_every_row_of_the_columns_says_what_empty_means() -> None:
    """Each row has four cells, and the last is not empty: an unknown must not be guessed at."""
    text = (BUILT_IN / "README.md").read_text(encoding="utf-8").partition("## Columns")[2]
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) > 60
    assert [row for row in rows if row.count("|") != 5 or not row.rsplit("|", 2)[1].strip()] == []
