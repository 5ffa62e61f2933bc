"""`isochrone agent run / check`: the daemon at a vantage point; the other subcommands are in app/commands/enrol.py."""

from __future__ import annotations

import asyncio
import logging
import sys
from dataclasses import asdict
from pathlib import Path

import click

from app.commands import agent_config, enrol
from app.commands.enrol import config_option, insecure_option
from app.output import emit_json, json_option, note, table
from app.quantities import YEAR_S, Number
from probes.check import Check, check_agent
from probes.client import check_way
from probes.config import load_config
from probes.daemon import run_agent
from probes.plan import Plan, make_plan
from records.errors import NoAnswer

__all__ = ["agent"]

#: Of more targets than this only those that are wrong are listed.
_SHOWN_TARGETS = 20


@click.group()
def agent() -> None:
    """Measure from here for ever: the daemon of a PoP.

    Example: isochrone agent run --config agent.toml
    """


for _command in (enrol.invite, enrol.enroll, enrol.rotate, enrol.revoke, enrol.require, enrol.list_):
    agent.add_command(_command)
agent.add_command(agent_config.config)


@agent.command()
@config_option
@click.option("--seconds", type=Number(0.1, YEAR_S), metavar="N", help="Stop in order after so many seconds.  [default: never]")
@insecure_option
@click.option("-v", "--verbose", is_flag=True, help="Say more on standard error.")
def run(path: Path, seconds: float | None, *, is_insecure: bool, verbose: bool) -> None:
    """Measure the targets of a configuration and send what was measured to the collector, until SIGTERM or Ctrl-C.

    SIGHUP reads the configuration again, whole or not at all; a second SIGTERM ends at once.
    Works for days without the collector: measurements wait in the spool and are sent in order later.

    Example: isochrone agent run --config agent.toml
    """
    _log_to_stderr(logging.DEBUG if verbose else logging.INFO)
    config = load_config(path)
    check_way(config.collector.url, is_insecure=is_insecure or config.collector.allow_insecure)
    try:
        summary = asyncio.run(run_agent(config, seconds=seconds))
    except asyncio.CancelledError:  # a second signal: at once
        raise KeyboardInterrupt from None
    made = ", ".join(f"{count} {kind}" for kind, count in summary.produced.items() if count) or "no measurements"
    waiting = f"{summary.waiting_batches} wait in the spool ({summary.spool_bytes} bytes)" if summary.waiting_batches else "none wait"
    dropped = f"; {summary.dropped_measurements} measurements dropped" if summary.dropped_measurements else ""
    note(f"stopped: made {made}; {summary.stored_batches} batches sent, {waiting}{dropped}")


@agent.command()
@config_option
@json_option
def check(path: Path, *, as_json: bool) -> None:
    """Check a configuration, and print its plan: the file, sockets, spool, collector, names; targets by tier, packets, bytes.

    Exit status 2: the file is wrong; 1: something does not work here; 0: an agent would run.

    Example: isochrone agent check --config agent.toml
    """
    _log_to_stderr(logging.WARNING)
    config = load_config(path)
    plan = make_plan(config)
    checks = asyncio.run(check_agent(config))
    failed = [entry.name for entry in checks if not entry.is_ok]
    if as_json:
        rows = [{"name": entry.name, "ok": entry.is_ok, "detail": entry.detail} for entry in checks]
        said = {"config": str(path), "agent": config.agent.id, "site": config.agent.site, "ok": not failed, "checks": rows}
        emit_json({**said, "plan": asdict(plan)})
    else:
        few = _few(checks)
        table(["what", "ok", "found"], [[entry.name, entry.is_ok, entry.detail] for entry in few])
        _show_plan(plan, config.limits.packets_per_second)
    if failed:
        raise NoAnswer(f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}")


def _few(checks: list[Check]) -> list[Check]:
    """The checks to show: of many targets that are all right only how many there are; what is wrong always."""
    fine = [entry for entry in checks if entry.name.startswith("target ") and entry.is_ok]
    if len(fine) <= _SHOWN_TARGETS:
        return checks
    return [entry for entry in checks if entry not in fine] + [Check(name="targets", is_ok=True, detail=f"{len(fine)} more are all right")]


def _show_plan(plan: Plan, limit: int) -> None:
    """Who is measured how often, and what that comes to."""
    rows = []
    for row in plan.rows:
        pace = [f"{row.interval_s:g} s", f"{row.packets_per_s:.1f}", _size(row.bytes_per_day)]
        rows.append([row.kind, row.tier, row.targets, *pace])
    click.echo()
    table(["probe", "tier", "targets", "each every", "packets/s", "bytes/day (at most)"], rows)
    click.echo()
    at_least = "" if plan.is_bounded else ", and what has no bound of its own"
    click.echo(f"in all: {plan.packets_per_s:.1f} packets/s of {limit} allowed, {_size(plan.bytes_per_day)} a day at most{at_least}")
    if any(row.tier in {"new", "fast"} for row in plan.rows):
        click.echo(
            f"at the first start {plan.packets_per_s_at_start:.1f} packets/s, until RTTs are known (new); "
            f"while RTTs move up to {plan.packets_per_s_at_most:.1f} (fast)"
        )


def _size(count: int | None) -> str:
    if count is None:
        return "no bound"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def _log_to_stderr(level: int) -> None:
    """Concise lines; systemd's journal adds time and unit itself."""
    form = "%(levelname)-7s %(message)s" if not sys.stderr.isatty() else "%(asctime)s %(levelname)-7s %(message)s"
    logging.basicConfig(level=level, format=form, datefmt="%H:%M:%S", stream=sys.stderr)
    for noisy in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
