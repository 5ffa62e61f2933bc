"""TOML tables read with care: every accessor checks its value and fails by naming file and line, the table and the key."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import NoReturn, TypeVar

from lab.toml_lines import Path, lines_of
from records.errors import InputError, UserError
from records.link import MEDIA, Medium
from records.units import parse_rate_bps

__all__ = ["Table", "decoded", "decoded_text", "like"]

T = TypeVar("T")

_STEP = re.compile(r"([^.\[\]]+)(?:\[(\d+)\])?")


def decoded(path: FilePath) -> tuple[Mapping[str, object], Mapping[Path, int]]:
    """The document of a TOML file, and where things stand in it; raises InputError when it cannot be read."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise InputError(path, None, "there is no such file; give a TOML file or the name of a built-in world") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, None, f"cannot read it: {error}") from None
    return decoded_text(text, str(path))


def decoded_text(text: str, source: str) -> tuple[Mapping[str, object], Mapping[Path, int]]:
    """As `decoded`, of a text; `source` is what messages call it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = re.search(r" \(at line (\d+), column \d+\)$", str(error))
        line = int(where[1]) if where else None
        raise InputError(source, line, f"not TOML: {str(error)[: where.start()] if where else error}") from None
    return document, lines_of(text)


def like(word: str, known: Iterable[str]) -> str:
    """What to add to a message about an unknown word: the known ones most alike; nothing where none is."""
    near = get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f"; did you mean {', '.join(near)}" if near else ""


class Table:
    """One TOML table.

    values  what it holds; anything but a mapping is refused
    source  what messages call the file
    where   what messages call the table, such as ``links[3]``; empty for the document
    known   the keys it may hold
    path    the way to the table from the top of its file
    lines   where things stand in the file, see lab.toml_lines; empty where nobody knows
    Raises InputError, here and in every accessor.
    """

    def __init__(
        self,
        values: object,
        source: str,
        where: str,
        known: Sequence[str],
        *,
        path: Path = (),
        lines: Mapping[Path, int] = MappingProxyType({}),
    ) -> None:
        self.source = source
        self.where = where
        self.path = path
        self.lines = lines
        self.values: Mapping[str, object] = values if isinstance(values, Mapping) else {}
        if not isinstance(values, Mapping):
            self.fail(None, f"{values!r} is not a table")
        for key in values:
            if key not in known:
                near = get_close_matches(key, known, n=1)
                hint = f"; did you mean {near[0]!r}" if near else f"; known keys are {', '.join(known)}"
                self.fail(key, f"unknown key{hint}")

    def fail(self, key: str | None, problem: str) -> NoReturn:
        """Refuse the table because of a key (None: because of the whole of it); ``links[2].between`` is one further down."""
        place = ".".join(part for part in (self.where, key) if part)
        raise InputError(self.source, self.line(key), f"{place}: {problem}" if place else problem)

    def line(self, key: str | None) -> int | None:
        """The line of a key, else of the nearest table around where it should be; None where nobody knows."""
        path = self.path
        if key is not None and key in self.values:
            path = (*path, key)
        elif key is not None:
            for name, number in _STEP.findall(key):
                path = (*path, name, int(number) - 1) if number else (*path, name)
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def get(self, key: str) -> object:
        """Whatever is under a key that has to be there."""
        if key not in self.values:
            self.fail(key, "missing")
        return self.values[key]

    def text(self, key: str, default: T | str = "") -> str | T:
        """The string under a key; a default of "" means that the key is required."""
        if key not in self.values and default != "":
            return default
        value = self.get(key)
        if not isinstance(value, str) or not value or "\n" in value:
            self.fail(key, f"{value!r} is not a line of text")
        return value

    def number(self, key: str, default: T | str = "") -> float | T:
        """The finite number under a key; a default of "" means that the key is required."""
        if key not in self.values and not isinstance(default, str):
            return default
        return self._number(key, self.get(key), -math.inf, math.inf)

    def integer(self, key: str, default: int) -> int:
        """The whole number under a key."""
        value = self.values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            self.fail(key, f"{value!r} is not a whole number")
        return value

    def flag(self, key: str) -> bool:
        """True or false; false when the key is missing."""
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            self.fail(key, f"{value!r} is not true or false")
        return value

    def one_of(self, key: str, allowed: Sequence[str]) -> str:
        """The string under a key, which has to be one of those."""
        value = self.get(key)
        if value not in allowed:
            self.fail(key, f"{value!r} is not one of {', '.join(allowed)}")
        assert isinstance(value, str)
        return value

    def known(self, key: str, names: Iterable[str], what: str) -> str:
        """The string under a key, which has to be the name of something there is; `what` says of what."""
        value = self.text(key)
        if value not in names:
            self.fail(key, f"there is no {what} {value!r}{like(value, names)}")
        return value

    def within(self, key: str, least: float, most: float) -> float | None:
        """The number under a key, within bounds; None when the key is missing."""
        return self._number(key, self.values[key], least, most) if key in self.values else None

    def whole(self, key: str, least: int, most: int) -> int | None:
        """The whole number under a key, within bounds; None when the key is missing."""
        value = self.within(key, least, most)
        if value is not None and value != int(value):
            self.fail(key, f"{value} is not a whole number")
        return None if value is None else int(value)

    def rate(self, key: str) -> int | None:
        """The rate under a key in bits per second; None when the key is missing."""
        return self._rate(key, self.values[key]) if key in self.values else None

    def ends(self, key: str) -> tuple[str, str]:
        """The two node ids under a key."""
        return self.as_ends(key, self.get(key))

    def as_ends(self, key: str, value: object) -> tuple[str, str]:
        """A pair of node ids found under a key."""
        if not (isinstance(value, list) and len(value) == 2 and all(isinstance(end, str) for end in value)):
            self.fail(key, f'{value!r} is not a pair of node ids; for example {key} = ["sin", "bb-sin"]')
        return value[0], value[1]

    @contextmanager
    def refusing(self, key: str) -> Iterator[None]:
        """Whatever is refused within is the fault of a key."""
        try:
            yield
        except InputError:
            raise
        except UserError as error:
            self.fail(key, str(error))

    def medium(self, key: str) -> Medium:
        """The medium under a key."""
        value = self.one_of(key, MEDIA)
        return next(medium for medium in MEDIA if medium == value)

    def tables(self, key: str, known: Sequence[str], *, required: bool = True) -> Iterable[Table]:
        """The list of tables under a key, each with the keys it may hold."""
        rows = self.get(key) if required else self.values.get(key, [])
        if not isinstance(rows, list):
            self.fail(key, f"is not a list of tables; write [[{key}]]")
        return (
            Table(row, self.source, f"{key}[{number}]", known, path=(*self.path, key, number - 1), lines=self.lines)
            for number, row in enumerate(rows, start=1)
        )

    def pair_of_numbers(self, key: str, default: float | None, least: float, most: float) -> tuple[float, float]:
        """One number for both directions, or a list of two; a default of None means that the key is required."""
        value = self.values.get(key, default) if default is not None else self.get(key)
        there, back = self._pair(key, value)
        return self._number(key, there, least, most), self._number(key, back, least, most)

    def range_of_numbers(self, key: str, rest: float, least: float, most: float) -> tuple[float, float]:
        """One number that is reached from `rest`, or a list [from, to]; `rest` twice when the key is missing."""
        value = self.values.get(key, rest)
        low, high = self._pair(key, value) if isinstance(value, list) else (rest, value)
        return self._number(key, low, least, most), self._number(key, high, least, most)

    def pair_of_rates(self, key: str) -> tuple[int, int] | None:
        """One rate for both directions, or a list of two, in bits per second; None when the key is missing."""
        if key not in self.values:
            return None
        there, back = (self._rate(key, value) for value in self._pair(key, self.values[key]))
        return there, back

    def _pair(self, key: str, value: object) -> tuple[object, object]:
        if not isinstance(value, list):
            return value, value
        if len(value) != 2:
            self.fail(key, f"{value!r} is not one value or a pair [there, back]")
        return value[0], value[1]

    def _number(self, key: str, value: object, least: float, most: float) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            self.fail(key, f"{value!r} is not a finite number")
        if not least <= value <= most:
            self.fail(key, f"{value} is out of range; {least:g} to {most:g} is allowed")
        return float(value)

    def _rate(self, key: str, value: object) -> int:
        if not isinstance(value, str):
            self.fail(key, f'{value!r} is not a rate; write it as text, for example "100Mbit/s"')
        try:
            rate_bps = parse_rate_bps(value)
        except UserError as error:
            self.fail(key, str(error))
        if rate_bps < 1000:
            self.fail(key, f"{value!r} is too slow; at least 1kbit/s")
        return rate_bps
