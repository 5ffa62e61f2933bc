"""`isochrone route`: where a request should be served and over which route, and why."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from app.commands.routes import evidence_options
from app.opening import Opening
from app.output import emit_json, json_option, note
from app.quantities import MOST_MS, MOST_RPS, MOST_USD, Duration, Number
from inventory import risk_groups
from inventory.countries import COUNTRIES, hint
from records.errors import NoRoute, UnknownSite, UserError
from routing.handshakes import HANDSHAKE_ROUND_TRIPS
from routing.request import OBJECTIVES, RELAY_MODES, Request

__all__ = ["route"]


@click.command()
@evidence_options
@click.option("--from", "source", required=True, metavar="SITE", help="Where the request comes from: a PoP, a region or a metro.")
@click.option("--to", "destination", metavar="SITE", help="Serve it here; without it the planner chooses.")
@click.option(
    "--workload", default="chat", show_default=True, metavar="NAME|FILE", help="A workload of the inventory, or a CSV file of one."
)
@click.option("--objective", type=click.Choice(OBJECTIVES), default="ttft", show_default=True, help="What is to be least.")
@click.option("--relays", type=click.IntRange(0, 2), default=1, show_default=True, help="Most relays on a route.")
@click.option("--relay-ms", type=Number(0, MOST_MS), default=0.5, show_default=True, metavar="MS", help="What a relay adds to an RTT.")
@click.option("-k", "k", type=click.IntRange(min=1), default=3, show_default=True, metavar="N", help="How many routes to name.")
@click.option(
    "--budget-ms",
    type=Number(0, 3_600_000, above=True),
    metavar="X",
    help="The 95th percentile of TTFT (of E2E for that objective) must keep this.",
)
@click.option(
    "--connection",
    type=click.Choice(list(HANDSHAKE_ROUND_TRIPS)),
    default="cold",
    show_default=True,
    help="The client's hand-shake: TCP and TLS 1.3 (cold), none (warm), or another.",
)
@click.option(
    "--onward",
    type=click.Choice(list(HANDSHAKE_ROUND_TRIPS)),
    default="warm",
    show_default=True,
    help="The hand-shake behind the place where the client's connection ends.",
)
@click.option(
    "--relay-mode",
    type=click.Choice(RELAY_MODES),
    default="forward",
    show_default=True,
    help="Relays pass ciphertext on, or end TLS and see plaintext.",
)
@click.option("--residency", multiple=True, metavar="RULE", help="A residency rule that must be kept, as in gdpr; may be given again.")
@click.option("--subject-country", metavar="CC", help="Whose people's data it is; else the country of --from.")
@click.option("--budget-usd", type=Number(0, MOST_USD, above=True), metavar="X", help="Most USD per 1,000 requests.")
@click.option(
    "--max-utilisation",
    type=Number(0, 1, above=True),
    default=1.0,
    show_default=True,
    metavar="RATIO",
    help="Most of a pool that may be taken.",
)
@click.option("--min-availability", type=Number(0, 1), metavar="RATIO", help="Least availability of the whole route; see --availability.")
@click.option(
    "--availability", multiple=True, metavar="WHO=RATIO", help="Availability of a site, a provider, pop or region; may be given again."
)
@click.option("--max-evidence-age", "max_evidence_age_s", type=Duration(), metavar="DURATION", help="No leg measured longer ago than this.")
@click.option(
    "--min-providers", type=click.IntRange(min=1), default=1, show_default=True, help="The routes named use at least this many providers."
)
@click.option(
    "--load", "arrival_rps", type=Number(0, MOST_RPS), default=0.0, show_default=True, metavar="RPS", help="Requests/s at each pool."
)
@click.option("--cache-hit", type=Number(0, 1), default=0.0, show_default=True, metavar="RATIO", help="Share of the prompt held already.")
@click.option(
    "--groups", type=click.Path(path_type=Path), metavar="FILE", help="CSV site,group: what fails together, beside sites of one metro."
)
@click.option("--measured-only", is_flag=True, help="Refuse routes with a modelled leg.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the draws; the same seed, the same answer.")
@json_option
def route(
    warehouse: str,
    window_s: float,
    max_age_s: float,
    source: str,
    destination: str | None,
    workload: str,
    objective: Any,
    relays: int,
    relay_ms: float,
    k: int,
    budget_ms: float | None,
    connection: Any,
    onward: Any,
    relay_mode: Any,
    residency: tuple[str, ...],
    subject_country: str | None,
    budget_usd: float | None,
    max_utilisation: float,
    min_availability: float | None,
    availability: tuple[str, ...],
    max_evidence_age_s: float | None,
    min_providers: int,
    arrival_rps: float,
    cache_hit: float,
    groups: Path | None,
    measured_only: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Say where a request should be served and over which route, with alternatives, a backup and the reasons.

    TTFT = connect + upload + relay + queue + prefill + network; E2E = TTFT + decode. Legs that nobody measured are
    modelled and say so. Exit status 1 when no route keeps the constraints: the answer then names the one that binds.

    \b
    Examples:
      isochrone route --from sin
      isochrone route --from metro:lagos --workload voice-agent --objective e2e --json
      isochrone route --from fra --residency gdpr --budget-usd 0.5
    """
    country = None if subject_country is None else subject_country.upper()
    if country is not None and country not in COUNTRIES:
        # A law asks whose data it is: a country that does not exist would be one that no law protects.
        raise UserError(f"--subject-country {subject_country!r} is no country's code (ISO 3166-1 alpha-2){hint(subject_country or '')}")
    opening = Opening(warehouse, window_s, max_age_s)
    from app import answers  # beside it, since it takes as long

    asked = answers.workload_of(workload)
    more = None if groups is None else risk_groups.read(groups)
    with opening:
        known = opening.links()
        answers.require_links(known)
        for name in more or ():
            if name not in known.sites:
                raise UnknownSite(name, known.sites)
        request = Request(
            source=answers.site_id(source, known),
            destination=None if destination is None else answers.site_id(destination, known),
            workload=asked,
            objective=objective,
            relays=relays,
            relay_ms=relay_ms,
            k=k,
            budget_ms=budget_ms,
            connection=connection,
            arrival_rps=arrival_rps,
            cache_hit_ratio=cache_hit,
            measured_only=measured_only,
            onward=onward,
            relay_mode=relay_mode,
            residency=answers.residency_rules(residency),
            subject_country=country,
            budget_usd_per_1k=budget_usd,
            max_utilisation=max_utilisation,
            min_availability=min_availability,
            max_evidence_age_s=None if max_evidence_age_s is None or math.isinf(max_evidence_age_s) else max_evidence_age_s,
            min_providers=min_providers,
        )
        answer = answers.route_answer(
            known, request, seed=seed, availability=answers.availabilities(availability, known), groups=more, moments=opening.moments
        )
    for said in answers.rules_not_in_force(request, known.sites):
        note(f"{said}; --subject-country names another country")
    if as_json:
        from routing.answer import to_json

        emit_json(to_json(answer))
    else:
        from app.route_text import show

        show(answer)
    if answer.infeasible is not None:
        raise NoRoute(f"no route from {request.source}: {'; '.join(binding.text for binding in answer.infeasible.binding)}")
