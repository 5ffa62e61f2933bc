"""`isochrone failures`: what the loss of each site, of pairs of them or of a risk group does to all other pairs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import click

from app import answers, pools
from app.commands.routes import evidence_options, load_links
from app.output import emit_json, json_option, note, table
from app.quantities import MOST_MS, Number
from inventory import risk_groups
from records.errors import UserError
from routing.disjoint import default_groups
from routing.matrix import LinkTable, link_table
from routing.sweep import FailureEffect, failure_effects

__all__ = ["failures"]

_SHOWN = 20


@click.command()
@evidence_options
@click.option("--relays", type=click.IntRange(0, 2), default=1, show_default=True, help="Most relays on a route.")
@click.option("--relay-ms", type=Number(0, MOST_MS), default=0.5, show_default=True, metavar="MS", help="What a relay adds to an RTT.")
@click.option("--pairs", is_flag=True, help="Every two sites together, instead of every one.")
@click.option("--groups", "by_group", is_flag=True, help="Every metro and provider with several sites, instead of every site.")
@click.option("--groups-file", type=click.Path(path_type=Path), metavar="FILE", help="CSV site,group: more groups; implies --groups.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="Processes to compute in.")
@click.option(
    "--dask", "scheduler", metavar="ADDRESS|local", help="Compute on Dask workers: a scheduler's tcp://host:port, or some made here."
)
@json_option
def failures(
    warehouse: str,
    window_s: float,
    max_age_s: float,
    relays: int,
    relay_ms: float,
    pairs: bool,
    by_group: bool,
    groups_file: Path | None,
    workers: int,
    scheduler: str | None,
    as_json: bool,
) -> None:
    """Rank the losses of sites by what they do to the routes of all others: pairs cut, pairs slowed, ms added.

    The network alone is looked at: `isochrone whatif --all-single-failures` ranks by what users feel. Only links that
    passed every gate are used. Routes are chosen anew without the lost sites, exactly, over as many relays as asked for.

    \b
    Examples:
      isochrone failures
      isochrone failures --pairs --workers 2 --json
    """
    if pairs and (by_group or groups_file is not None):
        raise UserError("--pairs and --groups are two kinds of losses; give one of them")
    more = None if groups_file is None else risk_groups.read(groups_file)
    if scheduler not in {None, "local"}:
        pools.check_address(str(scheduler))
    if scheduler is None:
        pools.prepare(workers)
    known = load_links(warehouse, window_s, max_age_s)
    answers.require_links(known)
    given = link_table(known.links)
    named = _losses(known, given, pairs=pairs, by_group=by_group or more is not None, more=more)
    allowed = [at for at, name in enumerate(given.names) if name not in known.sites or known.sites[name].kind != "metro"]
    ask = partial(failure_effects, given.direct_ms, relays=relays, relay_ms=relay_ms, allowed=allowed)
    sets = list(named.values())
    with _pool(workers, scheduler) as pool:
        chunk = (
            pools.chunk_of(_one(ask), sets[0], count=len(sets), workers=pool["workers"]) if pool["executor"] is not None and sets else None
        )
        found = ask(sets, chunk=chunk, **pool)
    ranked = sorted(zip(named, found, strict=True), key=lambda item: (-item[1].lost_pairs, -item[1].added_ms, item[0]))
    document = [_json(name, effect, given) for name, effect in ranked]
    if as_json:
        emit_json(document)
    else:
        rows = [[each[c] for c in ("name", "lost_pairs", "slower_pairs", "added_ms", "worst_ms")] for each in document[:_SHOWN]]
        table(["lost", "pairs cut", "pairs slower", "ms added in all", "worst ms"], rows)
    note(f"{len(document)} losses among {len(given.names)} sites, snapshot {known.snapshot}")


def _losses(
    known: answers.Links, given: LinkTable, *, pairs: bool, by_group: bool, more: dict[str, frozenset[str]] | None
) -> dict[str, tuple[int, ...]]:
    """What is lost together, by name."""
    if by_group:
        groups = default_groups([known.sites[name] for name in given.names if name in known.sites], more, providers=True)
        members: dict[str, list[int]] = {}
        for name in given.names:
            for group in groups.get(name, ()):
                members.setdefault(group, []).append(given.index[name])
        return {group: tuple(sites) for group, sites in sorted(members.items()) if len(sites) > 1}
    count = 2 if pairs else 1
    return {" + ".join(given.names[at] for at in sites): sites for sites in combinations(range(len(given.names)), count)}


def _pool(workers: int, scheduler: str | None) -> AbstractContextManager[dict[str, Any]]:
    if scheduler is None:
        return pools.processes(workers)
    return pools.dask(None if scheduler == "local" else scheduler, count=max(2, workers))


def _one(ask: Any) -> Any:
    return lambda sites: ask([sites])


def _json(name: str, effect: FailureEffect, given: LinkTable) -> dict[str, Any]:
    return {
        "name": name,
        "sites": [given.names[at] for at in effect.gone],
        "lost_pairs": effect.lost_pairs,
        "slower_pairs": effect.slower_pairs,
        "added_ms": round(effect.added_ms, 6),
        "worst_ms": round(effect.worst_ms, 6),
    }
