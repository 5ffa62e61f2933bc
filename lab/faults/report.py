"""Runs the scenarios, prints each as it ends, and writes the page."""

from __future__ import annotations

import json
import logging
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from lab.faults import outages, scenarios
from lab.faults.collector import ROOT
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


#: What computes all the time: it runs when the others are done, alone. Of the others the longest begin first.
_ALONE = ("week-cut-off",)
_FIRST = ("all-reconnect", "collector-killed", "duplicated-and-reordered", "clock-stepped")
_LONGEST_S = 1800.0


def run(name: str, *, is_short: bool = False, seed: int = 1) -> Outcome:
    """Run one scenario. Raises OutsideError where this machine lacks what it takes."""
    with stage(is_short=is_short, seed=seed) as one:
        return SCENARIOS[name](one)


class _Side:
    """Scenarios side by side, each in a process of its own: most of them wait most of the time."""

    def __init__(self, *, is_short: bool, seed: int) -> None:
        self._options = ["--json", "--seed", str(seed), *(["--short"] if is_short else [])]
        self._running: set[subprocess.Popen[str]] = set()
        self._is_ending = False

    def run(self, name: str) -> dict[str, Any]:
        """One scenario's row."""
        if self._is_ending:
            return {"ok": False, "failed": "ended before it began"}
        process = subprocess.Popen(
            [sys.executable, "-m", "lab.faults", "--only", name, *self._options],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._running.add(process)
        said = ""
        try:
            out, said = process.communicate(timeout=_LONGEST_S)
            row: dict[str, Any] = json.loads(out)["scenarios"][name]
        except (subprocess.TimeoutExpired, ValueError, KeyError) as error:
            process.terminate()
            process.wait(60)
            row = {"ok": False, "failed": f"{type(error).__name__}: {said[-300:] or error}"}
        finally:
            self._running.discard(process)
        return row

    def end(self) -> None:
        """End what runs: each clears its stage."""
        self._is_ending = True
        for process in list(self._running):
            process.terminate()


def _rows(names: Sequence[str], jobs: int, *, is_short: bool, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each scenario's row, as they end."""
    if jobs == 1 or len(names) == 1:
        for name in names:
            began = time.monotonic()
            try:
                row = run(name, is_short=is_short, seed=seed).json()
            except OutsideError as error:
                row = {"ok": True, "skipped": str(error)}
            except Exception as error:  # noqa: BLE001 - the next scenario is another matter
                row = {"ok": False, "failed": f"{type(error).__name__}: {error}"}
            yield name, {**row, "took_s": round(time.monotonic() - began, 1)}
        return
    side = _Side(is_short=is_short, seed=seed)
    beside = sorted((name for name in names if name not in _ALONE), key=lambda name: (name not in _FIRST, names.index(name)))
    try:
        with ThreadPoolExecutor(jobs) as threads:
            try:
                begun = {threads.submit(side.run, name): name for name in beside}
                for done in as_completed(begun):
                    yield begun[done], done.result()
            except BaseException:
                side.end()
                raise
        for name in names:
            if name in _ALONE:
                yield name, side.run(name)
    finally:
        side.end()


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
                f"Measured on {machine['date']} in {machine['took_s']:.0f} s: {machine['cores']} cores, load {machine['load']:.1f} at the "
                f"start, {machine['platform']}, Python {machine['python']}; {machine['jobs']} at a time, the week cut off alone. "
                "What runs beside makes nothing faster: times are upper bounds."
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
@click.option("--jobs", type=click.IntRange(1, 16), default=3, show_default=True, help="Scenarios at a time; the week cut off runs alone.")
@click.option("--short", "is_short", is_flag=True, help="Less of everything, as the tests do.")
@click.option("--seed", default=1, show_default=True, help="Of the moments that are chosen at random.")
@click.option("--json", "is_json", is_flag=True, help="One JSON document on standard output.")
@click.option("--write", type=click.Path(path_type=Path), metavar="FILE", help="Write the page there.")
def main(*, only: tuple[str, ...], jobs: int, is_short: bool, seed: int, is_json: bool, write: Path | None) -> None:
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
    names = list(dict.fromkeys(only)) or list(SCENARIOS)
    machine["jobs"] = 1 if len(names) == 1 else jobs
    began_s = time.monotonic()
    found: dict[str, dict[str, Any]] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name, row in _rows(names, jobs, is_short=is_short, seed=seed):
        found[name] = row
        rows = {each: found[each] for each in names if each in found}
        machine["took_s"] = round(time.monotonic() - began_s)
        if write is not None:
            write.write_text(_page(rows, machine), encoding="utf-8")
        click.echo(f"{_line(name, rows[name])} (took {rows[name]['took_s']:.0f} s)", err=is_json)
        for said in (*rows[name].get("notes", ()), *rows[name].get("faults", ())):
            click.echo(f"    {said}", err=is_json)
    if is_json:
        click.echo(json.dumps({"machine": machine, "scenarios": rows}, indent=2))
    sys.exit(0 if all(row["ok"] for row in rows.values()) else 1)
