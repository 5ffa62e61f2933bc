"""Reading tables from CSV: rows that know their line, fields that check themselves, faults collected to the end.

A reader goes through the whole file and notes every bad row, so that a person mends a file in one pass and not
in twenty; only then does it fail.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from inventory.countries import COUNTRIES, hint
from records.errors import InputError, UserError

__all__ = ["BadRow", "Faults", "Row", "header_faults", "read_rows", "read_table"]

T = TypeVar("T")

_AS_OF = re.compile(r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?")


class BadRow(ValueError):
    """One field of a row does not hold; the message names the field, the value and what is allowed."""


class _Follows(BadRow):
    """A fault that only follows from one noted already; the row is left out and nothing more is said."""


class Faults:
    """The faults found so far, in the order found; `fail` raises them all as one InputError."""

    def __init__(self) -> None:
        self.found: list[InputError] = []
        self._spoiled: set[str] = set()
        self._tables_lost = False

    def add(self, path: Path, line: int | None, problem: str) -> None:
        """Note one fault of a file (line from 1; None for the file as a whole)."""
        self.found.append(InputError(path, line, problem))
        self._tables_lost |= line is None or line == 1

    def spoil(self, name: str | None) -> None:
        """Remember what a bad row was to define, so that references to it are not called faults too."""
        if name:
            self._spoiled.add(name)

    def missing(self, name: str, problem: str) -> BadRow:
        """The fault of a row that refers to a name no other table has.

        Where the row meant is bad itself, or a whole table could not be read, the reference cannot be judged, and
        the fault is one that nothing is said of.
        """
        return _Follows(problem) if self._tables_lost or name in self._spoiled else BadRow(problem)

    def fail(self) -> None:
        """Raise InputError with every fault, one on each line of the message; return when there is none."""
        if not self.found:
            return
        first, *rest = self.found
        raise InputError(first.path, first.line, "\n".join([first.problem, *(str(fault) for fault in rest)]))


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: its fields by column name, stripped, and where it stands.

    Every reader below raises BadRow when the field does not hold what is asked of it.
    """

    path: Path
    line: int
    fields: dict[str, str]

    def optional(self, column: str) -> str | None:
        """The text of a field, None where it is empty or the table has no such column."""
        return self.fields.get(column) or None

    def text(self, column: str) -> str:
        """The text of a field that must not be empty."""
        value = self.optional(column)
        if value is None:
            raise BadRow(f"{column} is empty")
        return value

    def optional_number(self, column: str, low: float = -math.inf, high: float = math.inf) -> float | None:
        """A finite number from low to high, both included; None where the field is empty: unknown is not zero."""
        text = self.optional(column)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            raise BadRow(f"{column} {text!r} is not a number") from None
        if not math.isfinite(value) or not low <= value <= high:
            raise BadRow(f"{column} {text} is out of range; {_range(low, high)}")
        return value

    def number(self, column: str, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number from low to high that must be there."""
        self.text(column)
        value = self.optional_number(column, low, high)
        assert value is not None
        return value

    def whole(self, column: str, low: float = 0, high: float = math.inf) -> int:
        """A whole number from low to high that must be there."""
        value = self.number(column, low, high)
        if value != int(value):
            raise BadRow(f"{column} {self.text(column)} is not a whole number")
        return int(value)

    def one_of(self, column: str, allowed: Sequence[str]) -> str:
        """One of the words allowed."""
        value = self.text(column)
        if value not in allowed:
            raise BadRow(f"{column} {value!r} is not one of {', '.join(allowed)}")
        return value

    def country(self, column: str = "country") -> str | None:
        """An ISO 3166-1 alpha-2 code in upper case; None where the field is empty."""
        value = self.optional(column)
        if value is None or value in COUNTRIES:
            return value
        raise BadRow(f"{column} {value!r} is not an ISO 3166-1 alpha-2 code{hint(value)}")

    def as_of(self, column: str = "as_of") -> str:
        """When the row was true: a year, a month or a day, as in 2026, 2026-05 or 2026-05-17."""
        value = self.text(column)
        if not _AS_OF.fullmatch(value):
            raise BadRow(f"{column} {value!r} is not a date; write YYYY, YYYY-MM or YYYY-MM-DD")
        return value


def _range(low: float, high: float) -> str:
    if high == math.inf:
        return f"at least {low:g}" if low > -math.inf else "it must be finite"
    return f"from {low:g} to {high:g}"


def read_rows(path: Path, required: Sequence[str], optional: Sequence[str], faults: Faults) -> Iterator[Row]:
    """The rows of a CSV file whose header has every required column; faults are noted, blank lines skipped.

    A column the table does not know is left alone, unless it looks like a misspelling of one it knows: a typing
    error in an optional column must not make its values vanish.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        faults.add(path, None, "no such file")
        return
    except (OSError, UnicodeDecodeError) as error:
        faults.add(path, None, f"cannot be read: {error}; it must be CSV in UTF-8")
        return
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 0
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if not _header_holds(path, header, required, optional, faults):
            return
        line = reader.line_num
        for cells in reader:
            # The line a row begins on: with quoted line breaks in it, reader.line_num is the one it ends on.
            begins, line = line + 1, reader.line_num
            fields = [cell.strip() for cell in cells]
            if not any(fields):
                continue
            if len(cells) != len(header):
                faults.add(path, begins, f"{len(cells)} fields, the header names {len(header)}")
                faults.spoil(fields[0])
                continue
            yield Row(path, begins, dict(zip(header, fields, strict=True)))
    except csv.Error as error:
        faults.add(path, line + 1, f"is not CSV: {error}")


def _header_holds(path: Path, header: list[str], required: Sequence[str], optional: Sequence[str], faults: Faults) -> bool:
    if not any(header):
        faults.add(path, 1, f"is empty; the first line must be the header {','.join(required)}")
        return False
    problems = header_faults(header, required, optional)
    for problem in problems:
        faults.add(path, 1, problem)
    return not problems


def header_faults(header: Sequence[str], required: Sequence[str], optional: Sequence[str]) -> list[str]:
    """What is wrong with the names of columns: repeated, missing, or like a known one and not it."""
    problems = [f"column {name} twice" for name in sorted({name for name in header if name and header.count(name) > 1})]
    missing = [name for name in required if name not in header]
    if missing:
        problems.append(f"no column {', '.join(missing)}; the header is {','.join(header)}")
    absent = [name for name in (*required, *optional) if name not in header]
    problems.extend(
        f"column {name!r} is not known; did you mean {near[0]!r}"
        for name in header
        if name not in (*required, *optional) and (near := get_close_matches(name, absent, n=1, cutoff=0.8))
    )
    return problems


def read_table(
    path: Path,
    required: Sequence[str],
    make: Callable[[Row], T],
    key: Callable[[T], object],
    faults: Faults,
    *,
    optional: Sequence[str] = (),
) -> list[T]:
    """The records of a table in file order: `make` turns a row into a record, `key` says what may occur only once.

    A row that cannot be made, or repeats a key, is noted in `faults` and left out.
    """
    records: list[T] = []
    first: dict[object, int] = {}
    for row in read_rows(path, required, optional, faults):
        try:
            record = make(row)
        except (BadRow, UserError) as error:
            if not isinstance(error, _Follows):
                faults.add(path, row.line, str(error))
            faults.spoil(row.optional(required[0]))
            continue
        if (earlier := first.setdefault(key(record), row.line)) != row.line:
            faults.add(path, row.line, f"the same {_key_text(key(record))} as in line {earlier}")
            continue
        records.append(record)
    return records


def _key_text(key: object) -> str:
    return " / ".join("any" if part is None else str(part) for part in key) if isinstance(key, tuple) else str(key)
