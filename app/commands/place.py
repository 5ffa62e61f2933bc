"""`isochrone place`: where to set up sites, so that users are near one of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, get_args

import click

from app.commands.routes import evidence_options, load_links
from app.output import emit_json, json_option, note, table
from app.placing import KINDS, UNITS, Placed, candidates_of, place_answer, placement_json
from app.quantities import MOST_MS, MOST_S, MOST_USD, Number
from inventory import candidates as candidate_file
from inventory.load import load
from records.errors import UserError, WarehouseMissing
from routing.placement import Objective

__all__ = ["place"]

_SHOWN = 10


@click.command()
@evidence_options
@click.option("-k", "k", type=click.IntRange(min=1), required=True, metavar="N", help="How many sites, kept ones included.")
@click.option(
    "--candidates",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="CSV: id, and optionally name,lat,lon,country,capacity,price_usd. Without it: every PoP and region.",
)
@click.option("--kinds", type=click.Choice(KINDS), help="Without --candidates: only PoPs, or only regions; else any.")
@click.option(
    "--objective",
    type=click.Choice(get_args(Objective)),
    default="p50",
    show_default=True,
    help="Mean of people's median RTT; the RTT 95 % of people keep; or the share of people within --budget-ms.",
)
@click.option(
    "--budget-ms",
    type=Number(0, MOST_MS, above=True),
    default=30.0,
    show_default=True,
    metavar="X",
    help="For within-budget: the RTT to keep.",
)
@click.option("--keep", multiple=True, metavar="SITE", help="This site stands already and stays; may be given again.")
@click.option("--spend-usd", type=Number(0, MOST_USD), metavar="X", help="Most that new sites may cost together.")
@click.option("--prove", "proven", is_flag=True, help="Find the optimum, or how far from it this can be.")
@click.option("--time-limit", "time_limit_s", type=Number(0.1, MOST_S), default=30.0, show_default=True, metavar="S", help="For --prove.")
@json_option
@click.pass_context
def place(
    ctx: click.Context,
    warehouse: str,
    window_s: float,
    max_age_s: float,
    k: int,
    candidates: Path | None,
    kinds: str | None,
    objective: Any,
    budget_ms: float,
    keep: tuple[str, ...],
    spend_usd: float | None,
    proven: bool,
    time_limit_s: float,
    as_json: bool,
) -> None:
    """Choose k sites so that the people of the inventory's metros are near one of them.

    Distances are measured RTTs where the warehouse has them and models elsewhere, and say which. The answer comes from a
    greedy search with swaps, with a bound where sites have prices or capacities; --prove gives the optimum or a tighter
    bound. `gain` is what each candidate is worth as one more site (for a chosen one, what is lost without it). With a
    `capacity` (people) in the candidates' file a metro's people may be split over sites.

    \b
    Examples:
      isochrone place -k 20 --prove
      isochrone place -k 8 --kinds pop
      isochrone place -k 12 --objective within-budget --budget-ms 20 --keep sin --keep fra --json
    """
    if candidates is not None and kinds is not None:
        raise UserError("--kinds chooses among the inventory's sites and --candidates names others; take one")
    asked = candidates_of(kinds or "any", load()) if candidates is None else candidate_file.read(candidates)
    given = ctx.get_parameter_source("warehouse") is not click.core.ParameterSource.DEFAULT
    try:
        known = load_links(warehouse, window_s, max_age_s)
    except WarehouseMissing:
        if given:
            raise
        known = None
        note("there is no warehouse here: every distance is modelled")
    placed = place_answer(
        k,
        objective=objective,
        candidates=asked,
        keep=keep,
        budget_ms=budget_ms,
        spend_usd=spend_usd,
        proven=proven,
        time_limit_s=time_limit_s,
        known=known,
    )
    if as_json:
        emit_json(placement_json(placed))
    else:
        _show(placed, time_limit_s, is_asked=proven)
    note(f"{placed.known_share:.0%} of people are served over a measured RTT; the others over a modelled one")


def _show(placed: Placed, time_limit_s: float, *, is_asked: bool) -> None:
    document = placement_json(placed)
    problem, unit = placed.problem, UNITS[placed.problem.objective]
    digits = 4 if problem.objective == "within-budget" else 2
    proof = "not proven; --prove tells how far it can be from the best"
    if is_asked and document["bound"] is None:
        proof = f"no bound was found in {time_limit_s:g} s; give --prove more with --time-limit"
    elif document["bound"] is not None:
        proof = (
            "proven to be the best"
            if not document["gap"]
            else f"no choice beats {document['bound']:.{digits}f}: within {document['gap']:.2%}"
        )
    click.echo(f"{problem.objective} of {len(document['sites'])} sites: {document['value']:.{digits}f} {unit} ({proof})\n")
    people: dict[str, float] = dict.fromkeys(document["sites"], 0.0)
    for metro in document["metros"]:
        people[metro["site"]] += metro["people"]
    gain = {row["site"]: row["gain"] for row in document["marginal"]}
    table(
        ["site", "million people", f"{unit} lost without it"],
        [[site, people[site] / 1e6, gain[site] if gain[site] is not None else math.nan] for site in document["sites"]],
    )
    click.echo(f"\nWorth most as one more site ({unit}):")
    more = [row for row in document["marginal"] if not row["chosen"]][:_SHOWN]
    table(["site", "gain"], [[row["site"], row["gain"]] for row in more])
