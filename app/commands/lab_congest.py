"""`isochrone lab congest` and `calm`: busy and quiet hours of a running lab."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from app.commands.lab_place import attached, do, state_dir_option
from app.quantities import MOST_MS, YEAR_S, Number
from records.errors import UserError
from records.link import MEDIA

__all__ = ["calm", "congest"]

F = TypeVar("F", bound=Callable[..., Any])


class _Range(click.ParamType[Any]):
    """One number, or two as QUIET:PEAK."""

    name = "PEAK|QUIET:PEAK"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float] | float:
        try:
            numbers = [float(part) for part in str(value).split(":")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 2) or not all(0 <= number <= MOST_MS for number in numbers):
            self.fail(f"{value!r} is not a number from 0 to {MOST_MS}, nor two as QUIET:PEAK", param, ctx)
        return numbers if len(numbers) == 2 else numbers[0]


def _where_options(function: F) -> F:
    """Which links: A and B, a site's, or a medium's."""
    for decorate in (
        click.option("--one-way", is_flag=True, help="Only from A to B, or only towards the site."),
        click.option("--medium", type=click.Choice(MEDIA), default=None, help="All links of a medium; with A and B, which of theirs."),
        click.option("--site", default=None, metavar="SITE", help="All links of a site."),
        click.argument("ends", nargs=-1, metavar="[A B]"),
    ):
        function = decorate(function)
    return function


def _where(ends: tuple[str, ...], site: str | None, medium: str | None, *, one_way: bool) -> dict[str, object]:
    if ends and (len(ends) != 2 or site is not None):
        raise UserError("give both ends of one link, or --site, or --medium")
    if ends:
        values: dict[str, object] = {"links": [[*ends, medium] if medium else [*ends]]}
    else:
        values = {key: value for key, value in (("site", site), ("medium", medium)) if value is not None}
    return values | ({"one_way": True} if one_way else {})


@click.command()
@_where_options
@click.option("--delay-ms", type=_Range(), default=None, help="Extra wait of every packet, one way.")
@click.option("--jitter-ms", type=_Range(), default=None, help="Mean of an exponential wait on top.")
@click.option("--loss", type=_Range(), default=None, help="Extra loss ratio, 0..1.")
@click.option("--rate-share", type=_Range(), default=None, help="The share of its rate that a link has left.")
@click.option("--period-s", type=Number(0, 100 * YEAR_S, above=True), default=None, help="How long a day is. [default: 86400]")
@click.option(
    "--peak-at-s",
    type=Number(-100 * YEAR_S, 100 * YEAR_S),
    default=None,
    help="When in a period the load is highest, from the start of the lab.",
)
@click.option("--peak-local-h", type=Number(-24, 24), default=None, help="The same as an hour of local solar time.")
@state_dir_option
def congest(
    ends: tuple[str, ...], site: str | None, medium: str | None, one_way: bool, state_dir: Path | None, **values: float | list[float] | None
) -> None:
    """Give links busy and quiet hours: a load that rises to its peak and falls again once a period.

    Example: isochrone lab congest bb-sin bb-nrt --period-s 120 --peak-at-s 60 --delay-ms 1:15 --loss 0.01
    """
    where = _where(ends, site, medium, one_way=one_way)
    do(attached(state_dir), {"op": "congest", **where, **{key: value for key, value in values.items() if value is not None}})


@click.command()
@_where_options
@state_dir_option
def calm(ends: tuple[str, ...], site: str | None, medium: str | None, one_way: bool, state_dir: Path | None) -> None:
    """Take all congestion off links, also what the topology says.

    Example: isochrone lab calm --medium internet
    """
    do(attached(state_dir), {"op": "calm", **_where(ends, site, medium, one_way=one_way)})
