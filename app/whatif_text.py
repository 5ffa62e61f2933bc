"""A comparison or a ranking as a person reads it in a terminal."""

from __future__ import annotations

from typing import Any

import click

from app.output import table

__all__ = ["IN_TIME", "show_case", "show_comparison", "show_ranking"]

#: What sets a burst's timeline apart from the totals beside it, which are of another moment and another rule.
IN_TIME = "In time (the comparison above is of the peak, at rest)"

_WORST = 10


def show_comparison(answer: dict[str, Any]) -> None:
    """Print a scenario beside its baseline: totals, the places that lose most, pools that are full, new single points."""
    before, after, deltas = answer["baseline"], answer["proposed"], answer["deltas"]
    if answer.get("title"):
        click.echo(answer["title"])
    where = "models alone" if answer["snapshot"] is None else f"snapshot {answer['snapshot']}"
    click.echo(
        f"{answer['workload']}, least {answer['objective']}, {before['rps']:.1f} requests/s, over {where}; links {after['evidence']}\n"
    )
    table(
        ["", "baseline", "proposed", "change"],
        [
            ["TTFT p95 ms", before["ttft_ms"]["p95"], after["ttft_ms"]["p95"], deltas["ttft_p95_ms"]],
            ["E2E p95 ms", before["e2e_ms"]["p95"], after["e2e_ms"]["p95"], deltas["e2e_p95_ms"]],
            ["USD a month", before["usd_per_month"], after["usd_per_month"], deltas["usd_per_month"]],
            ["  of that known", before["usd_known_per_month"], after["usd_known_per_month"], deltas["usd_known_per_month"]],
            ["late or lost %", before["slo_miss_share"] * 100, after["slo_miss_share"] * 100, deltas["slo_miss_share"] * 100],
            ["lost %", before["lost_share"] * 100, after["lost_share"] * 100, deltas["lost_share"] * 100],
            ["served elsewhere %", None, deltas["moved_share"] * 100, None],
            ["enters elsewhere %", None, deltas["rehomed_share"] * 100, None],
        ],
    )
    missing = sorted({*before["unpriced"], *after["unpriced"]})
    if missing:
        click.echo(f"No price known for {', '.join(missing[:5])}{' and more' if len(missing) > 5 else ''}.")
    worse = [row for row in answer["per_metro"] if (row["regret_ms"] or 0) > 0.05 or row["lost_share"] > 0][:_WORST]
    if worse:
        click.echo("\nWorst off:")
        table(
            ["place", "requests/s", "TTFT p95 ms before", "after", "lost %", "served then by"],
            [
                [
                    row["site"],
                    row["rps"],
                    row["ttft_p95_ms"]["before"],
                    row["ttft_p95_ms"]["after"],
                    row["lost_share"] * 100,
                    ", ".join(share["pool"] for share in row["served"]["after"]) or None,
                ]
                for row in worse
            ],
        )
    if answer.get("timeline"):
        _burst(answer["timeline"])
    unit = "USD" if answer["objective"] == "cost" else "ms"
    for pool in (pool for pool in after["pools"] if pool["state"] == "full"):
        worth = "serve one that is lost now" if pool["relieves_loss"] else f"save {pool['capacity_price']:.1f} {unit} for each"
        click.echo(f"{pool['id']} is healthy but full at {pool['load_rps']:.1f} requests/s; room for one more would {worth}")
    for point in answer["new_single_points"]:
        click.echo(f"new single point of failure: {point['kind']} {point['name']} ({point['lost_share'] * 100:.1f} % of demand)")
    click.echo(f"\nscenario {answer['scenario_hash'][:16]}")


def show_ranking(found: list[dict[str, Any]]) -> None:
    """Print the losses that are noticed, the worst first."""
    noticed = [row for row in found if row["touched"]]
    table(
        ["#", "loss of", "kind", "lost %", "late %", "TTFT p95 ms", "E2E p95 ms", "moved %", "then full"],
        [
            [
                row["rank"],
                row["name"],
                row["kind"],
                row["lost_share"] * 100,
                row["slo_miss_share"] * 100,
                row["ttft_p95_ms"],
                row["e2e_p95_ms"],
                row["moved_share"] * 100,
                ", ".join(row["full"]) or None,
            ]
            for row in noticed[:40]
        ],
    )
    click.echo(
        f"\n{len(found)} losses looked at, {len(noticed)} noticed by any request" + (", the worst 40 shown" if len(noticed) > 40 else "")
    )


def _burst(steps: list[dict[str, Any]]) -> None:
    """At most a dozen moments of a burst."""
    click.echo(f"\n{IN_TIME}:")
    every = max(1, len(steps) // 12)
    table(
        ["minute", "requests/s", "over capacity %", "mean wait ms", "worst pool", "its wait ms", "waiting"],
        [
            [
                round(step["t_s"] / 60),
                step["rps"],
                step["over_capacity_share"] * 100,
                round(step["wait_ms"], 2),
                step["worst_pool"],
                round(step["worst_wait_ms"], 2),
                round(step["waiting"], 2),
            ]
            for step in steps[::every]
        ],
    )


def show_case(answer: dict[str, Any]) -> None:
    """Print a worked case: both sides line by line, then the rows it lists."""
    click.echo(answer["title"])
    click.echo("over models alone\n" if answer["snapshot"] is None else f"over snapshot {answer['snapshot']}\n")
    before, after = (_flat(answer[side]) for side in ("baseline", "proposed"))
    names = list(dict.fromkeys((*before, *after)))
    table(["", "baseline", "proposed"], [[name, before.get(name), after.get(name)] for name in names])
    for name, value in answer["case"].items():
        if isinstance(value, list):
            click.echo(f"\n{name}:")
            rows = [_flat(row) for row in value]
            table(list(rows[0]), [list(row.values()) for row in rows])
        else:
            said = f"{value:.4g}" if isinstance(value, float) else _flat(value) if isinstance(value, dict) else value
            click.echo(f"{name}: {said}" if not isinstance(said, dict) else f"{name}: " + ", ".join(f"{k} {v}" for k, v in said.items()))


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested names joined by blanks, lists by commas."""
    found: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, dict):
            found |= _flat(inner, f"{prefix}{name} ")
        else:
            found[f"{prefix}{name}"] = ", ".join(map(str, inner)) if isinstance(inner, list) else inner
    return found
