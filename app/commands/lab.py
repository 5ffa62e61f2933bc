"""`isochrone lab`: the emulated WAN from the command line."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from app.output import emit_json, json_option, note, table
from records.errors import ToolMissing, UnknownSite
from records.link import MEDIA
from records.units import MS, ms, parse_rate_bps

if TYPE_CHECKING:
    from lab.namespace_lab import NamespaceLab
    from lab.world import Lab

__all__ = ["lab"]

F = TypeVar("F", bound=Callable[..., Any])


def _state_dir_option(function: F) -> F:
    return click.option(
        "--state-dir",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="ISOCHRONE_LAB",
        default=None,
        metavar="FOLDER",
        help="Where the lab keeps its state; one lab lives in each. [default: one place per user; env: ISOCHRONE_LAB]",
    )(function)


@click.group()
def lab() -> None:
    """An emulated wide-area network: real hosts, real packets, known true delays.

    Example: isochrone lab up demo-14
    """


@lab.command()
@click.argument("topology")
@_state_dir_option
@click.option(
    "--mode", type=click.Choice(["auto", "namespaces", "loopback"]), default="auto", show_default=True, help="What the hosts are made of."
)
@click.option("--foreground", is_flag=True, help="Stay, and take the lab down on Ctrl-C.")
@click.option("--no-serving", is_flag=True, help="Start no inference servers.")
def up(topology: str, state_dir: Path | None, mode: str, foreground: bool, no_serving: bool) -> None:
    """Start the lab of TOPOLOGY (a built-in world or a TOML file) and leave it running in the background.

    Example: isochrone lab up triangle
    """
    from lab.topology import load
    from lab.world import start

    world = load(topology)
    running = start(world, state_dir, mode, note, serving=not no_serving, detached=not foreground)  # type: ignore[arg-type]
    try:
        _introduce(running, state_dir, serving=not no_serving)
        if foreground:
            note("Ctrl-C takes it down")
            _until_told()
    finally:
        if foreground:
            running.stop()
            note("the lab is down")


def _introduce(running: Lab, state_dir: Path | None, *, serving: bool) -> None:
    """Say what was made, and how to use it."""
    rows = [(site.id, site.place.kind, site.place.name, "yes" if site.serves and serving else None) for site in running.topology.sites]
    note(f"{running.topology.name}: {running.topology.title} ({running.kind})")
    table(["site", "kind", "name", "serves"], rows)
    if running.kind == "namespaces":
        place = "" if state_dir is None else f" --state-dir {state_dir}"
        pair = next(iter(running.truth()), None)
        if pair is not None:
            note(f"try: isochrone lab exec{place} {pair.src} -- ping -c 3 {pair.address}")
        note(f"`isochrone lab truth{place}` says what every pair must measure, `isochrone lab down{place}` ends it")


def _until_told() -> None:
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    signal.signal(signal.SIGINT, lambda *_: told.set())
    told.wait()


@lab.command()
@_state_dir_option
def down(state_dir: Path | None) -> None:
    """End the lab with every process and namespace it made, and clear away what killed labs have left.

    Example: isochrone lab down
    """
    from lab.namespace_lab import NamespaceLab
    from lab.state import LabState, clear_leftovers, default_state_dir

    folder = state_dir or default_state_dir()
    state = LabState.read(folder)
    if state is not None:
        alive = state.alive
        NamespaceLab(state).stop()
        note("the lab is down" if alive else "the lab had been killed; what it had left is cleared away")
    cleared = clear_leftovers()
    if cleared:
        note(f"cleared away what {len(cleared)} killed labs had left")
    if state is None and not cleared:
        note(f"no lab was running in {folder}")


@lab.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("host")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@_state_dir_option
def exec_(host: str, command: tuple[str, ...], state_dir: Path | None) -> None:
    """Run a command at a HOST of the running lab; ends with the command's exit status.

    Example: isochrone lab exec sin -- ping -c 3 10.2.1.1
    """
    # click leaves the "--" that sets the command apart in its place.
    argv = _attach(state_dir).command(host, command[1:] if command[0] == "--" else command)
    sys.stdout.flush()
    try:
        os.execvp(argv[0], argv)  # noqa: S606  # the user's own command, as a list
    except OSError as error:
        raise ToolMissing(f"cannot run {argv[0]}: {error.strerror}") from error


@lab.command()
@click.option("--src", default=None, metavar="SITE", help="Only from this site.")
@click.option("--dst", default=None, metavar="SITE", help="Only to this site.")
@click.option("--medium", type=click.Choice(MEDIA), default=None, help="Only over this medium.")
@json_option
@_state_dir_option
def truth(src: str | None, dst: str | None, medium: str | None, as_json: bool, state_dir: Path | None) -> None:
    """What every pair must measure over every medium: configured RTT, loss, bottleneck and hops.

    Example: isochrone lab truth --src sin --json
    """
    running = _attach(state_dir)
    for site in (src, dst):
        if site is not None:
            running.topology.site(site)
    pairs = [p for p in running.truth() if src in (None, p.src) and dst in (None, p.dst) and medium in (None, p.medium)]
    if as_json:
        emit_json([{**asdict(pair), "rtt_ms": ms(pair.rtt_ns)} for pair in pairs])
        return
    rows = [
        (p.src, p.dst, p.medium, p.address, ms(p.rtt_ns), p.loss_ratio * 100, p.bottleneck_bps and p.bottleneck_bps / 1e6, len(p.hops))
        for p in pairs
    ]
    table(["src", "dst", "medium", "address", "rtt ms", "loss %", "Mbit/s", "hops"], rows)


@lab.command()
@click.argument("op", type=click.Choice(["fail", "restore", "degrade"]))
@click.argument("a")
@click.argument("b")
@click.option("--delay-ms", type=click.FloatRange(0, 10_000), default=None, help="New one-way delay (degrade).")
@click.option("--jitter-ms", type=click.FloatRange(0, 10_000), default=None, help="New mean jitter (degrade).")
@click.option("--loss", type=click.FloatRange(0, 1), default=None, help="New loss ratio, 0..1 (degrade).")
@click.option("--rate", default=None, metavar="RATE", help="New rate, such as 10Mbit/s (degrade).")
@click.option("--medium", type=click.Choice(MEDIA), default=None, help="Which link, where several media join A and B.")
@click.option("--one-way", is_flag=True, help="Only from A to B.")
@_state_dir_option
def change(
    op: str,
    a: str,
    b: str,
    delay_ms: float | None,
    jitter_ms: float | None,
    loss: float | None,
    rate: str | None,
    medium: str | None,
    one_way: bool,
    state_dir: Path | None,
) -> None:
    """Fail, restore or degrade the link between two nodes (sites or routers) A and B while the lab runs.

    Example: isochrone lab change degrade bb-sin bb-nrt --delay-ms 80
    """
    from lab.links import Change

    wanted = Change(
        op=op,  # type: ignore[arg-type]
        delay_ns=None if delay_ms is None else round(delay_ms * MS),
        jitter_ns=None if jitter_ms is None else round(jitter_ms * MS),
        loss_ratio=loss,
        rate_bps=None if rate is None else parse_rate_bps(rate),
    )
    running = _attach(state_dir)
    known = [site.id for site in running.topology.sites] + [router.id for router in running.topology.routers]
    for node in (a, b):
        if node not in known:
            raise UnknownSite(node, known)
    running.change(a, b, wanted, medium=medium, both=not one_way)  # type: ignore[arg-type]
    note(f"{op}: {a} {'->' if one_way else '<->'} {b}")


def _attach(state_dir: Path | None) -> NamespaceLab:
    from lab.world import attach

    return attach(state_dir)
