"""`isochrone demo`: the whole main job on real packets, in one command."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from app.commands.up import COLLECTOR_PORT, DASHBOARD_PORT
from app.output import emit_json, json_option, note, warehouse_option
from app.quantities import MOST_S, Number

if TYPE_CHECKING:
    from app.demo.run import Demo
    from app.demo.summary import Summary

__all__ = ["demo"]

_ONCE_SECONDS = 30.0
_REPORT_EVERY_S = 10.0


@click.command()
@click.option(
    "--world", default="world-24", show_default=True, metavar="NAME|FILE", help="A built-in world (`isochrone lab worlds`), or a topology."
)
@click.option("--once", is_flag=True, help="No dashboard: measure for --seconds, print the summary, stop.")
@click.option("--seconds", type=Number(1, MOST_S), help=f"How long to measure. [default: until Ctrl-C; with --once {_ONCE_SECONDS:.0f}]")
@click.option("--port", type=click.IntRange(1, 65535), default=DASHBOARD_PORT, show_default=True, help="Port of the dashboard.")
@click.option("--collector-port", type=click.IntRange(1, 65535), default=COLLECTOR_PORT, show_default=True, help="Port of the collector.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of the dashboard.")
@click.option(
    "--lab",
    "mode",
    type=click.Choice(["auto", "namespaces", "loopback"]),
    default="auto",
    show_default=True,
    help="Real hosts in namespaces where they can be had, else delaying reflectors on loopback.",
)
@warehouse_option
@json_option
def demo(
    world: str,
    once: bool,
    seconds: float | None,
    port: int,
    collector_port: int,
    host: str,
    mode: Literal["auto", "namespaces", "loopback"],
    warehouse: str,
    as_json: bool,
) -> None:
    """Build a world, measure it with real packets, keep it, find routes, and show it.

    Example: isochrone demo --once --seconds 30 --json
    """
    from app.demo.run import running, stop_on_signals

    stopping = stop_on_signals()
    if once and seconds is None:
        seconds = _ONCE_SECONDS
    warehouse = warehouse if ":" in warehouse else str(Path(warehouse).resolve())
    with running(
        world=world, warehouse=warehouse, host=host, ports=None if once else (port, collector_port), mode=mode, say=note
    ) as session:
        if not once:
            note(f"\n  open http://{host}:{port}  (the first links are on the map within seconds; Ctrl-C ends everything)\n")
        _watch(session, seconds, stopping)
        summary = session.finish()
    if as_json:
        emit_json(summary.as_json())
    else:
        _print(summary)


def _watch(session: Demo, seconds: float | None, stopping: threading.Event) -> None:
    """Report progress until the time is over or a signal came; a process that ends early is an error."""
    begun = time.monotonic()
    end = begun + seconds if seconds is not None else float("inf")
    while (now := time.monotonic()) < end and not stopping.wait(min(_REPORT_EVERY_S, end - now)):
        session.check()
        state = session.progress()
        note(
            f"  {time.monotonic() - begun:4.0f} s  {state.ping:,} pings, {state.traceroute:,} traceroutes, {state.throughput:,} transfers, "
            f"{state.inference:,} inferences; {state.links:,} links measured"
        )


def _print(summary: Summary) -> None:
    """The summary for a person."""
    click.echo(f"lab          {summary.lab}, {summary.hosts} hosts")
    for name, count in summary.measurements.items():
        click.echo(f"{name:<12} {count:,}")
    click.echo(f"links        {summary.measured_links:,} measured, {summary.modelled_links:,} modelled")
    click.echo(f"delivery     {summary.lost} lost, {summary.duplicated} duplicated")
    if summary.best is not None:
        route = summary.best
        ttft = route["ttft_ms"]["p50"]
        click.echo(f"best route   {' > '.join(route['sites'])}: first token in {ttft:.1f} ms (median), of {summary.routes} routes")
    click.echo(f"kept in      {summary.warehouse}; look again with `isochrone up --warehouse {summary.warehouse}`")
