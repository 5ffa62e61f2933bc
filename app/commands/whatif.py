"""`isochrone whatif`: a scenario beside its baseline, a ranking of every failure, and the shipped cases."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from app import pools
from app import whatif as composed
from app.commands.routes import evidence_options, load_links
from app.output import emit_json, json_option, note, progress, table
from app.quantities import MOST_RPS, Number
from app.whatif_text import show_case, show_comparison, show_ranking
from app.worked_cases import worked
from inventory.load import load
from records.errors import UserError, WarehouseMissing
from routing.fleet import FleetOptions
from routing.request import OBJECTIVES
from routing.variants import Axis, Spread, draws, grid

__all__ = ["whatif"]


@click.command()
@click.argument("scenario", required=False, metavar="[SCENARIO.json|NAME]")
@evidence_options
@click.option("--list", "listing", is_flag=True, help="List the scenarios that come with Isochrone.")
@click.option("--all-single-failures", is_flag=True, help="Rank every site and provider by the harm of losing it.")
@click.option("--groups", is_flag=True, help="Rank shared-risk groups: the scenario's own, and every city with several sites.")
@click.option("--pairs", type=click.IntRange(min=2, max=60), metavar="N", help="Rank every pair of the N sites whose loss hurts most.")
@click.option(
    "--workload", default="chat", show_default=True, metavar="NAME|FILE", help="What is asked for, where the scenario does not say."
)
@click.option("--objective", type=click.Choice(OBJECTIVES), default="ttft", show_default=True, help="What is least, unless it says.")
@click.option(
    "--rps",
    type=Number(0, MOST_RPS, above=True),
    metavar="X",
    help="Requests/s of all metros together; else half of what the pools can take.",
)
@click.option(
    "--max-utilisation",
    type=Number(0, 1, above=True, below=True),
    default=0.95,
    show_default=True,
    metavar="RATIO",
    help="From here on a pool is healthy but full.",
)
@click.option("--max-share", type=Number(0, 1, above=True), metavar="RATIO", help="Most of all demand that one provider may serve.")
@click.option("--grid", "grids", multiple=True, metavar="EDIT.FIELD=A,B,C", help="Vary a field of that edit; may be given again.")
@click.option("--draw", "spreads", multiple=True, metavar="EDIT.FIELD=LOW..HIGH", help="Draw a field uniformly; may be given again.")
@click.option("--count", type=click.IntRange(min=1), default=20, show_default=True, help="How many draws.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="Processes that rank failures.")
@click.option("--modelled", is_flag=True, help="Leave measurements aside: every link by its model.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the draws; the same seed, the same answer.")
@json_option
@click.pass_context
def whatif(
    ctx: click.Context,
    scenario: str | None,
    warehouse: str,
    window_s: float,
    max_age_s: float,
    listing: bool,
    all_single_failures: bool,
    groups: bool,
    pairs: int | None,
    workload: str,
    objective: Any,
    rps: float | None,
    max_utilisation: float,
    max_share: float | None,
    grids: tuple[str, ...],
    spreads: tuple[str, ...],
    count: int,
    workers: int,
    modelled: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Say what a change would do: a failed site, a new pool, a price, a law, a burst.

    A scenario is a JSON file of ordered edits, or the name of a shipped one. The answer carries its baseline, the harm
    place by place, and what has become a single point of failure. Without a warehouse every link is modelled, and says so.

    \b
    Examples:
      isochrone whatif pop-cut-off
      isochrone whatif SCENARIO.json --json
      isochrone whatif --all-single-failures --workers 2 --json
    """
    ranking = all_single_failures or groups or pairs is not None
    if listing:
        if scenario is not None or ranking or grids or spreads:
            raise UserError("--list names the shipped scenarios and answers nothing else; give it alone")
        return _list(as_json)
    if ranking and (grids or spreads):
        raise UserError("--grid and --draw vary a scenario, and a ranking is of one world; give one of them")
    if scenario is None and not ranking:
        raise UserError("name a scenario file or a shipped scenario (--list), or ask for --all-single-failures, --groups or --pairs")
    document = None if scenario is None else composed.read_document(scenario)
    if ranking:
        pools.prepare(workers)
    known = _known(ctx, warehouse, window_s, max_age_s, modelled)
    if document is not None and "kind" in document:
        if ranking or grids or spreads:
            raise UserError("rankings, --grid and --draw are of scenarios with edits; this is a worked case")
        found_case = worked(document, known, load(), seed=seed)
        return emit_json(found_case) if as_json else show_case(found_case)
    question = composed.Question(
        known=known,
        inventory=load(),
        options=FleetOptions(objective=objective, max_utilisation=max_utilisation, max_share=max_share),
        workload=workload,
        rps=rps,
        seed=seed,
    )
    edits = None if document is None else composed.scenario_of(document, question)
    if ranking:
        with pools.processes(workers) as pool:
            found = composed.ranking(
                question, edits, single=all_single_failures, groups=groups, pairs=pairs or 0, pool=pool, progress=progress
            )
        return emit_json(found) if as_json else show_ranking(found)
    assert edits is not None
    if grids or spreads:
        if grids and spreads:
            raise UserError("--grid and --draw are two ways to vary a scenario; take one")
        variants = (
            grid(edits, [_axis(text) for text in grids])
            if grids
            else draws(edits, [_spread(text) for text in spreads], count=count, seed=seed)
        )
        rows = composed.swept(question, variants)
        if as_json:
            return emit_json({"scenario": edits.name, "snapshot": question.snapshot, "seed": seed, "variants": rows})
        names = list(rows[0]["values"])
        deltas = list(rows[0]["deltas"])
        return table([*names, *deltas], [[*(row["values"][n] for n in names), *(row["deltas"][d] for d in deltas)] for row in rows])
    answer = composed.compared(question, edits)
    return emit_json(answer) if as_json else show_comparison(answer)


def _list(as_json: bool) -> None:
    rows = [(name, composed.read_document(name).get("title", "")) for name in composed.case_names()]
    if as_json:
        emit_json([{"name": name, "title": title} for name, title in rows])
    else:
        table(["name", "what if"], rows)


def _known(ctx: click.Context, warehouse: str, window_s: float, max_age_s: float, modelled: bool) -> Any:
    """The links of the warehouse; models alone where there is none and none was named."""
    if modelled:
        return composed.modelled_links(load())
    try:
        return load_links(warehouse, window_s, max_age_s)
    except WarehouseMissing:
        if ctx.get_parameter_source("warehouse") is not ParameterSource.DEFAULT:
            raise
        note(f"no warehouse at {warehouse}: every link is modelled")
        return composed.modelled_links(load())


def _number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def _field(text: str) -> tuple[int, str, str]:
    name, equals, values = text.partition("=")
    edit, dot, field = name.partition(".")
    if not (equals and dot and edit.isdecimal() and field and values):
        raise UserError(f"{text!r} is not EDIT.FIELD=..., as in 1.factor=1,2,4: the first edit's field `factor`")
    return int(edit), field, values


def _axis(text: str) -> Axis:
    edit, field, values = _field(text)
    return Axis(edit=edit, field=field, values=tuple(_number(value) for value in values.split(",")))


def _spread(text: str) -> Spread:
    edit, field, values = _field(text)
    low, dots, high = values.partition("..")
    ends = (_number(low), _number(high))
    if not dots or not all(isinstance(end, int | float) for end in ends):
        raise UserError(f"{text!r} is not EDIT.FIELD=LOW..HIGH, as in 1.add_ms=0..50")
    return Spread(edit=edit, field=field, low=float(ends[0]), high=float(ends[1]))
