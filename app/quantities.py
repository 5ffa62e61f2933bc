"""Numbers and durations that a person types as options: finite, within bounds, and told what is allowed.

click's own FloatRange lets NaN through, which no comparison catches later.
"""

from __future__ import annotations

import math
from typing import Any

import click

from records.errors import UserError
from records.units import SECOND, parse_duration_ns

__all__ = ["MOST_MS", "MOST_RPS", "MOST_S", "MOST_USD", "YEAR_S", "Duration", "Number", "duration_s"]

#: A minute: more than any delay on this planet.
MOST_MS = 60_000
#: A day, for what somebody waits for.
MOST_S = 86_400
#: More than all requests, and all money, that there are.
MOST_RPS = 1_000_000_000
MOST_USD = 1_000_000_000_000
#: For what is to end by itself some day.
YEAR_S = 366 * 86_400
_CENTURY_S = 36_525 * 86_400


class Number(click.FloatRange):
    """A finite number with a least and a greatest value; `above` and `below` leave that value itself out."""

    def __init__(self, low: float, high: float, *, above: bool = False, below: bool = False) -> None:
        super().__init__(low, high, min_open=above, max_open=below)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = click.FLOAT.convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number; it must be in the range {self._describe_range()}.", param, ctx)
        return super().convert(number, param, ctx)


class Duration(click.ParamType[float]):
    """A duration such as 10m or 2h, in seconds and at most a century; `all` is infinite."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        if value == "all":
            return math.inf
        try:
            return duration_s(value)
        except UserError as error:
            self.fail(str(error), param, ctx)


def duration_s(text: str, *, most_s: float = _CENTURY_S, most: str = "100 years (36525d)") -> float:
    """A duration in seconds. Raises UserError for one that cannot be read, or is longer than `most`."""
    seconds = parse_duration_ns(text) / SECOND
    if seconds > most_s:
        raise UserError(f"{text} is too long; give at most {most}, as in 24h or 30d")
    return seconds
