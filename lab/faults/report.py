"""Runs the scenarios, prints each as it ends, and writes the page."""

from __future__ import annotations

import json
import logging
import os
import platform
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from lab.faults import outages, scenarios
from lab.faults.judge import Outcome
from lab.faults.stage import stage
from records.errors import OutsideError

__all__ = ["SCENARIOS", "main", "run"]

#: In the order in which they are run and told.
SCENARIOS = {
    scenario.__name__.replace("_", "-"): scenario
    for scenario in (
        scenarios.agent_killed,
        scenarios.collector_killed,
        scenarios.disk_full_agent,
        scenarios.disk_full_collector,
        scenarios.catalog_locked,
        outages.postgres_restarted,
        outages.s3_restarted,
        scenarios.duplicated_and_reordered,
        scenarios.segment_corrupt,
        outages.certificate_expired,
        scenarios.clock_stepped,
        outages.all_reconnect,
        outages.week_cut_off,
    )
}


def run(name: str, *, is_short: bool = False, seed: int = 1) -> Outcome:
    """Run one scenario. Raises OutsideError where this machine lacks what it takes."""
    with stage(is_short=is_short, seed=seed) as one:
        return SCENARIOS[name](one)


def _line(name: str, row: dict[str, Any]) -> str:
    if "skipped" in row:
        return f"{name:26} not run: {row['skipped']}"
    if "failed" in row:
        return f"{name:26} FAILED: {row['failed']}"
    right = "never" if row["right_s"] is None else f"{row['right_s']:.1f} s"
    first = "never" if row["first_s"] is None else f"{row['first_s']:.1f} s"
    verdict = "ok" if row["ok"] else "LOST, DOUBLED OR BROKEN"
    return (
        f"{name:26} {verdict:4} made {row['made']:,} stored {row['stored']:,} lost {row['lost']:,} (allowed {row['allowed']:,}) "
        f"twice {row['twice']} first {first} right {right}"
    )


def _page(rows: dict[str, dict[str, Any]], machine: dict[str, Any]) -> str:
    done = {name: (SCENARIOS[name].__doc__ or "").strip() for name in rows}
    table = [
        "| fault | probe packets measured | lost | may be lost | first row stored after | all right again after |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        if "made" not in row:
            table.append(f"| {name} | | | | not run: {row.get('skipped') or row.get('failed')} | |")
            continue
        times = ["never" if row[key] is None else f"{row[key]:.1f} s" for key in ("first_s", "right_s")]
        verdict = "" if row["ok"] else " **beyond its bound, doubled or broken**"
        table.append(f"| {name} | {row['made']:,} | {row['lost']:,}{verdict} | {row['bound']} | {times[0]} | {times[1]} |")
    parts = []
    for name, row in rows.items():
        said = [*row.get("notes", ()), *(f"**{fault}**" for fault in row.get("faults", ()))]
        if rejects := row.get("rejects"):
            said.append("rejects: " + ", ".join(f"{count} {reason}" for reason, count in rejects.items()))
        parts.append(f"- **{name}**. {done[name]}" + (f" Seen: {'; '.join(said)}." if said else ""))
    return "\n".join(
        [
            "# Faults, and what they cost",
            "",
            "`make faults` does each of these to real collectors, agents and servers on loopback and writes this page; nobody edits it.",
            "Every scenario ends in the same judgement: a count that the system had no part in (a reflector's, or of what was put into",
            "spools) is held against the warehouse, no packet may be there twice, rejects are explained, and `isochrone warehouse verify`",
            "finds nothing. Times count from the moment the fault ended; starting a collector again is part of them.",
            "`python -m lab.faults --help` runs some of them, and gives JSON.",
            "",
            *table,
            "",
            "## What was done",
            "",
            *parts,
            "",
            (
                f"Measured on {machine['date']}: {machine['cores']} cores, load {machine['load']:.1f} at the start, {machine['platform']}, "
                f"Python {machine['python']}. The load tells whether other work ran beside; times are upper bounds then."
            ),
            "",
        ]
    )


def _names(_ctx: click.Context, _option: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    for name in value:
        if name not in SCENARIOS:
            raise click.BadParameter(f"{name!r} is no scenario; there are {', '.join(SCENARIOS)}")
    return value


@click.command()
@click.option("--only", multiple=True, callback=_names, metavar="NAME", help="Only this scenario; may be repeated.")
@click.option("--short", "is_short", is_flag=True, help="Less of everything, as the tests do.")
@click.option("--seed", default=1, show_default=True, help="Of the moments that are chosen at random.")
@click.option("--json", "is_json", is_flag=True, help="One JSON document on standard output.")
@click.option("--write", type=click.Path(path_type=Path), metavar="FILE", help="Write the page there.")
def main(*, only: tuple[str, ...], is_short: bool, seed: int, is_json: bool, write: Path | None) -> None:
    """Do each fault to real processes, hold them to account, and say what was lost and how long it took.

    Exit status 1 when anything is lost beyond its bound.

    Example: python -m lab.faults --only collector-killed
    """
    machine = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "platform": platform.system() + " " + platform.release(),
        "python": platform.python_version(),
    }
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    logging.getLogger("isochrone").addHandler(logging.NullHandler())  # what the fleet's uplinks say is in their counts
    rows: dict[str, dict[str, Any]] = {}
    for name in only or SCENARIOS:
        began = time.monotonic()
        try:
            rows[name] = run(name, is_short=is_short, seed=seed).json()
        except OutsideError as error:
            rows[name] = {"ok": True, "skipped": str(error)}
        except Exception as error:  # noqa: BLE001 - the next scenario is another matter
            rows[name] = {"ok": False, "failed": f"{type(error).__name__}: {error}"}
        rows[name]["took_s"] = round(time.monotonic() - began, 1)
        if write is not None:
            write.write_text(_page(rows, machine), encoding="utf-8")
        click.echo(f"{_line(name, rows[name])} (took {rows[name]['took_s']:.0f} s)", err=is_json)
        for said in (*rows[name].get("notes", ()), *rows[name].get("faults", ())):
            click.echo(f"    {said}", err=is_json)
    if is_json:
        click.echo(json.dumps({"machine": machine, "scenarios": rows}, indent=2))
    sys.exit(0 if all(row["ok"] for row in rows.values()) else 1)
