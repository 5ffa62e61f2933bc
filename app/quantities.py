"""Numbers and durations that a person types as options: finite, within bounds, and told what is allowed.

click's own FloatRange lets NaN through, which no comparison catches later.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from typing import Any

import click

from records.errors import ConfigError, UserError
from records.units import SECOND, parse_duration_ns

__all__ = ["MOST_MS", "MOST_RPS", "MOST_S", "MOST_USD", "YEAR_S", "Duration", "Number", "as_options", "duration_s"]

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


#: Settings whose option has another name than theirs.
_OPTIONS = {"payload_bytes": "size", "packet_bytes": "size", "max_response_bytes": "max_bytes", "udp_rate_mbps": "udp"}
_UNITS = {"ms": "ms", "s": "s", "bytes": "bytes", "mbps": "Mbit/s"}
_FAULT = re.compile(r"\w+[. ](?P<name>\w+) is (?P<value>[^;]*); (?P<rest>.*)", re.DOTALL)


@contextlib.contextmanager
def as_options() -> Iterator[None]:
    """Have a setting that a command makes of its options be named as the option in what is wrong with it, with its unit."""
    try:
        yield
    except ConfigError as error:
        fault = _FAULT.fullmatch(str(error))
        if fault is None:
            raise
        name, _, unit = fault["name"].rpartition("_")
        unit = _UNITS.get(unit, "") if name else ""
        asked = _OPTIONS.get(fault["name"], name if unit and unit != "bytes" else fault["name"])
        option = f"--{asked.replace('_', '-')}"
        if not any(option in param.opts for param in click.get_current_context().command.params):
            raise
        value = fault["value"].removesuffix(".0")
        raise UserError(f"{option} is {value}{unit and ' '}{unit}; {fault['rest']}") from error


def duration_s(text: str, *, most_s: float = _CENTURY_S, most: str = "100 years (36525d)") -> float:
    """A duration in seconds. Raises UserError for one that cannot be read, or is longer than `most`."""
    seconds = parse_duration_ns(text) / SECOND
    if seconds > most_s:
        raise UserError(f"{text} is too long; give at most {most}, as in 24h or 30d")
    return seconds
