"""A planner's answer as a person reads it in a terminal."""

from __future__ import annotations

import click

from app.output import table
from records.units import MS, ms
from routing.answer import PARTS, Answer, Route
from routing.breakeven import BreakEven
from routing.media import worst_evidence

__all__ = ["show"]


def show(answer: Answer) -> None:
    """Print the answer: the question, the ranked routes, each with its parts and reasons, backup, front, or what binds."""
    request, workload = answer.request, answer.request.workload
    to = "" if request.destination is None else f" to {request.destination}"
    load = f", {request.arrival_rps:g} requests/s at each pool" if request.arrival_rps else ", idle pools"
    click.echo(
        f"{workload.title} ({workload.model}, {workload.input_tokens} tokens in, {workload.output_tokens} out) from {request.source}{to}: "
        f"least {_OBJECTIVES[request.objective]}, {request.connection} connection{load}; snapshot {answer.snapshot}\n"
    )
    if answer.infeasible is not None:
        click.echo("No route. What binds:")
        for binding in answer.infeasible.binding:
            click.echo(f"  {binding.text}")
        if answer.infeasible.relax:
            click.echo("What would give one:")
            for i, change in enumerate(answer.infeasible.relax):
                usd = "" if change.gives_usd_per_1k is None else f", {change.gives_usd_per_1k:.2f} USD per 1,000"
                cheapest = "  <- cheapest" if i == answer.infeasible.cheapest and len(answer.infeasible.relax) > 1 else ""
                click.echo(f"  {change.text}{usd}{cheapest}")
        return
    _ranking(answer)
    for number, route in enumerate(answer.routes, start=1):
        _details(f"{number}", route)
    if answer.backup is not None:
        _details("backup", answer.backup)
    _front(answer)
    _prices(answer)


_OBJECTIVES = {"ttft": "time to first token", "e2e": "time to the last token", "cost": "cost"}


def _ranking(answer: Answer) -> None:
    table(
        ["#", "TTFT p50 ms", "p95", "p99", "E2E p50 ms", "RTT p50 ms", "USD/1k", "evidence", "route", "pool"],
        [
            [
                number,
                *((ms(route.ttft.p50_ns), ms(route.ttft.p95_ns), ms(route.ttft.p99_ns)) if route.ttft is not None else (None, None, None)),
                None if route.e2e is None else ms(route.e2e.p50_ns),
                ms(route.rtt.p50_ns),
                route.usd_per_1k,
                worst_evidence(route.legs) or "no leg",
                " → ".join(route.sites),
                None if route.pool is None else route.pool.id,
            ]
            for number, route in enumerate(answer.routes, start=1)
        ],
    )
    if answer.ties:
        pairs = ", ".join(f"{i + 1} and {j + 1}" for i, j in answer.ties)
        click.echo(f"The evidence cannot tell apart: {pairs}.")


def _details(label: str, route: Route) -> None:
    click.echo(f"\n{label}: {' → '.join(route.sites)}" + (f", pool {route.pool.id}" if route.pool is not None else ""))
    parts = [(name, getattr(route.parts, name)) for name in PARTS]
    click.echo("   " + " + ".join(f"{name} {value / MS:.1f}" for name, value in parts if value is not None) + " ms")
    if len(route.legs) > 1:
        moments = f"replay of {route.moments} moments at which all legs were measured"
        how = "Monte Carlo, each leg by itself" if route.moments is None else moments
        click.echo(f"   quantiles: {how}")
    for reason in route.reasons:
        click.echo(f"   {reason}")


def _front(answer: Answer) -> None:
    if len(answer.pareto) < 2:
        return
    click.echo("\nFaster or cheaper, never both:")
    for point in answer.pareto:
        which = f"route {point.route + 1}" if point.route is not None else f"{' → '.join(point.sites)}, pool {point.pool}"
        click.echo(f"   {point.ttft_ns / MS:.1f} ms to the first token at {point.usd_per_1k:.2f} USD per 1,000: {which}")


def _prices(answer: Answer) -> None:
    """What each rule costs, and where edge and cloud change places."""
    for price in answer.rule_prices:
        usd = "cost unknown" if price.usd_per_1k is None else f"{price.usd_per_1k:+.2f} USD per 1,000"
        click.echo(f"\n{price.rule} costs {price.price_ns / MS:+.1f} ms and {usd}; without it: {' → '.join(price.without_sites)}")
    found = answer.break_even
    if found is None:
        return
    click.echo(f"\n{found.near}\n   against {found.far}: first token sooner on the {_side(found.ttft_winner, found)} one")
    if found.output_tokens is not None:
        click.echo(
            f"   both end together at {found.output_tokens:.1f} output tokens; this request has {answer.request.workload.output_tokens}"
        )
    if found.payload_bytes is not None:
        click.echo(f"   the order of first tokens changes at {found.payload_bytes:,} bytes up")
    if found.usd_per_hour is not None:
        click.echo(f"   both cost the same with the first pool at {found.usd_per_hour:.2f} USD/h")


def _side(winner: str, found: BreakEven) -> str:
    return "first" if winner == found.near else "second"
