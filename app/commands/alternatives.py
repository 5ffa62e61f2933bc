"""`isochrone alternatives`: every way between two sites worth knowing: the k best, a backup that fails alone, the front."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from app import answers
from app.commands.routes import evidence_options, load_links
from app.output import emit_json, json_option, note, table
from app.quantities import MOST_MS, Number
from inventory import risk_groups
from inventory.load import load
from records.errors import NoRoute, UnknownSite, UserError
from records.place import Site
from routing.alternatives import Alternative, k_best
from routing.disjoint import backup, default_groups, pair, shared_groups
from routing.matrix import LinkTable, link_table
from routing.media import worst_evidence
from routing.pareto import fronts

__all__ = ["alternatives"]


@click.command()
@evidence_options
@click.option("--from", "source", required=True, metavar="SITE", help="Where the routes begin.")
@click.option("--to", "destination", required=True, metavar="SITE", help="Where they end.")
@click.option("-k", "k", type=click.IntRange(min=1), default=5, show_default=True, metavar="N", help="How many routes to name.")
@click.option("--relays", type=click.IntRange(0, 2), default=1, show_default=True, help="Most relays on a route.")
@click.option("--relay-ms", type=Number(0, MOST_MS), default=0.5, show_default=True, metavar="MS", help="What a relay adds to an RTT.")
@click.option(
    "--groups", type=click.Path(path_type=Path), metavar="FILE", help="CSV site,group: what fails together, beside sites of one metro."
)
@click.option("--providers/--no-providers", default=True, show_default=True, help="Sites of one cloud provider fail together.")
@json_option
def alternatives(
    warehouse: str,
    window_s: float,
    max_age_s: float,
    source: str,
    destination: str,
    k: int,
    relays: int,
    relay_ms: float,
    groups: Path | None,
    providers: bool,
    as_json: bool,
) -> None:
    """The k best routes between two sites, a backup that does not fail with the best, and the front of latency, price and loss.

    The backup is the best route that shares no relay and no risk group (metro, provider, those of --groups) with the first
    one; the pair is the two such routes that are cheapest together. The front holds every route over at most one relay that
    no other beats in RTT, egress price and loss at once. Only links that passed every gate are used. Exit status 1 when
    nothing joins the two.

    \b
    Examples:
      isochrone alternatives --from sin --to aws:us-east-1 -k 3
      isochrone alternatives --from sin --to fra --groups cables.csv --json
    """
    more = None if groups is None else risk_groups.read(groups)
    known = load_links(warehouse, window_s, max_age_s)
    answers.require_links(known)
    ends = [answers.site_id(name, known) for name in (source, destination)]
    if ends[0] == ends[1]:
        raise UserError(f"--from and --to are both {ends[0]}; name two sites")
    for name in more or ():
        if name not in known.sites:
            raise UnknownSite(name, known.sites)
    given = link_table(known.links)
    if any(name not in given.index for name in ends):
        missing = next(name for name in ends if name not in given.index)
        raise NoRoute(f"{missing} has no link that passed its gates; `isochrone links --src {missing}` shows why")
    document = _answer(known, given, (ends[0], ends[1]), k, relays, relay_ms, more, providers=providers)
    if as_json:
        emit_json(document)
    elif document["routes"]:
        _show(document)
    if not document["routes"]:
        most = f"at most {relays} relay{'' if relays == 1 else 's'}"
        more_relays = "" if relays == 2 else "try --relays 2, or "
        raise NoRoute(f"nothing joins {ends[0]} and {ends[1]} over {most}; {more_relays}measure more links")


def _answer(
    known: answers.Links,
    given: LinkTable,
    ends: tuple[str, str],
    k: int,
    relays: int,
    relay_ms: float,
    more: dict[str, frozenset[str]] | None,
    *,
    providers: bool,
) -> dict[str, Any]:
    i, j = (given.index[name] for name in ends)
    places = [known.sites.get(name) for name in given.names]
    allowed = [at for at, site in enumerate(places) if site is None or site.kind != "metro"]
    by_site = default_groups([site for site in places if site is not None], more, providers=providers)
    groups = [by_site.get(name, frozenset()) for name in given.names]
    options: dict[str, Any] = {"relay_ms": relay_ms, "allowed": allowed}
    found = k_best(given.direct_ms, i, j, k, relays=relays, **options)
    second = backup(given.direct_ms, i, j, found[0].relays, groups=groups, relays=relays, **options) if found else None
    both = pair(given.direct_ms, i, j, groups=groups, **options) if relays else None
    usd, loss = _prices(given, places), _losses(given)
    (front,) = fronts(given.direct_ms, usd, loss, [(i, j)], **options) if relays else ([],)

    def route(found: Alternative) -> dict[str, Any]:
        sites = (ends[0], *(given.names[at] for at in found.relays), ends[1])
        legs = [given.legs[leg] for leg in itertools.pairwise(sites)]
        return {
            "sites": list(sites),
            "rtt_ms": round(found.cost_ms, 6),
            "evidence": worst_evidence(legs),
            "groups": sorted({name for at in found.relays for name in groups[at]}),
        }

    return {
        "snapshot": known.snapshot,
        "src": ends[0],
        "dst": ends[1],
        "routes": [route(each) for each in found],
        "backup": None
        if second is None
        else route(second) | {"shared": sorted(shared_groups(groups, (i, j), found[0].relays, second.relays))},
        "pair": None if both is None else {"rtt_ms": round(both.cost_ms, 6), "routes": [route(both.first), route(both.second)]},
        "pareto": [
            {
                "sites": [ends[0], *([] if point.relay is None else [given.names[point.relay]]), ends[1]],
                "rtt_ms": round(point.latency_ms, 6),
                "egress_usd_per_gb": point.cost,
                "loss_ratio": point.loss_ratio,
            }
            for point in front
        ],
    }


def _prices(given: LinkTable, places: Sequence[Site | None]) -> np.ndarray:
    """[N, N] USD for a GB that leaves the first site for the second, first tier; a PoP's exit is our own: 0."""
    inventory = load()
    own = {name: site for name, site in zip(given.names, places, strict=True) if site is not None and site.provider is not None}
    usd = np.zeros(given.direct_ms.shape)
    for name, site in own.items():
        priced = {
            scope: inventory.egress_usd_per_gb(name, scope) if name in inventory.sites else None
            for scope in ("internet", "inter-region", "direct-connect")
        }
        for other, at in given.index.items():
            link = given.legs.get((name, other))
            if link is not None:
                same = other in own and own[other].provider == site.provider
                price = priced["inter-region" if same else "direct-connect" if link.medium == "direct-connect" else "internet"]
                if not same and link.medium == "direct-connect":
                    contract = inventory.media_between(name, other).get(link.medium)
                    price = price if contract is None or contract.usd_per_gb is None else contract.usd_per_gb
                usd[given.index[name], at] = np.nan if price is None else price
    return usd


def _losses(given: LinkTable) -> np.ndarray:
    loss = np.full(given.direct_ms.shape, np.nan)
    for (src, dst), link in given.legs.items():
        if link.loss_ratio is not None:
            loss[given.index[src], given.index[dst]] = link.loss_ratio
    return loss


def _show(document: dict[str, Any]) -> None:
    named = [(str(rank), each) for rank, each in enumerate(document["routes"], 1)]
    named += [("backup", document["backup"])] if document["backup"] is not None else []
    named += [("pair", each) for each in (document["pair"] or {"routes": []})["routes"]]
    rows = [[name, each["rtt_ms"], each["evidence"], " → ".join(each["sites"])] for name, each in named]
    table(["", "RTT ms", "evidence", "route"], rows)
    if document["routes"] and document["backup"] is None:
        click.echo("no route is disjoint from the first")
    if document["pareto"]:
        click.echo("\nNo other route beats these in RTT, egress price and loss at once:")
        table(
            ["RTT ms", "USD/GB", "loss %", "route"],
            [
                [p["rtt_ms"], p["egress_usd_per_gb"], None if p["loss_ratio"] is None else p["loss_ratio"] * 100, " → ".join(p["sites"])]
                for p in document["pareto"]
            ],
        )
    note(f"snapshot {document['snapshot']}")
