"""`isochrone lab`: the emulated WAN from the command line."""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.commands.lab_change import change, play, status
from app.commands.lab_congest import calm, congest
from app.commands.lab_make import from_matrix
from app.commands.lab_place import state_dir_option
from app.output import emit_json, json_option, note, table
from records.errors import ToolMissing, UserError
from records.link import MEDIA
from records.units import ms

if TYPE_CHECKING:
    from lab.topology import Topology
    from lab.world import Lab

__all__ = ["lab"]


@click.group()
def lab() -> None:
    """An emulated wide-area network: real hosts, real packets, known true delays.

    Example: isochrone lab up world-24
    """


@lab.command()
@click.argument("topology")
@state_dir_option
@click.option(
    "--mode", type=click.Choice(["auto", "namespaces", "loopback"]), default="auto", show_default=True, help="What the hosts are made of."
)
@click.option("--foreground", is_flag=True, help="Stay, and take the lab down on Ctrl-C.")
@click.option("--no-serving", is_flag=True, help="Start no inference servers.")
@click.option("--seed", type=int, default=None, help="Seed of loss and jitter, in place of the topology's own.")
@json_option
def up(topology: str, state_dir: Path | None, mode: str, foreground: bool, no_serving: bool, seed: int | None, as_json: bool) -> None:
    """Start the lab of TOPOLOGY (a built-in world or a TOML file) and leave it running in the background.

    Several labs may run at once, each in a --state-dir of its own.

    Example: isochrone lab up triangle
    """
    from lab.topology import load
    from lab.world import start

    world = load(topology)
    if seed is not None:
        world = replace(world, seed=seed)
    running = start(world, state_dir, mode, note, serving=not no_serving, detached=not foreground)  # type: ignore[arg-type]
    try:
        if as_json:
            sites = [{"id": site.id, "kind": site.place.kind, "serves": site.serves and not no_serving} for site in world.sites]
            emit_json({"world": world.name, "seed": world.seed, "lab": running.kind, "state_dir": str(running.state_dir), "sites": sites})
        else:
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
    from lab.world import UDP_ECHO_PORT

    rows = [(site.id, site.place.kind, site.place.name, "yes" if site.serves and serving else None) for site in running.topology.sites]
    note(f"{running.topology.name}: {running.topology.title} ({running.kind})")
    table(["site", "kind", "name", "serves"], rows)
    place = "" if state_dir is None else f" --state-dir {state_dir}"
    pair = next(iter(running.truth()), None)
    if pair is not None and running.kind == "namespaces":
        note(f"try: isochrone lab exec{place} {pair.src} -- ping -c 3 {pair.address}")
    elif pair is not None:
        note(f"try: isochrone ping --engine udp --port {UDP_ECHO_PORT} {pair.address}    (from {pair.src} to {pair.dst})")
    note(f"`isochrone lab truth{place}` says what every pair must measure, `isochrone lab down{place}` ends it")


def _until_told() -> None:
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    signal.signal(signal.SIGINT, lambda *_: told.set())
    told.wait()


@lab.command()
@state_dir_option
def down(state_dir: Path | None) -> None:
    """End the lab with every process and namespace it made, and clear away what killed labs have left.

    Example: isochrone lab down
    """
    from lab.state import clear_leftovers, default_state_dir
    from lab.world import find

    found = find(state_dir)
    if found is not None:
        alive = found.state.alive
        found.stop()
        note("the lab is down" if alive else "the lab had been killed; what it had left is cleared away")
    cleared = clear_leftovers()
    if cleared:
        note(f"cleared away what {len(cleared)} killed labs had left")
    if found is None and not cleared:
        note(f"no lab was running in {state_dir or default_state_dir()}")


@lab.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("host")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@state_dir_option
def exec_(host: str, command: tuple[str, ...], state_dir: Path | None) -> None:
    """Run a command at a HOST of the running lab; ends with the command's exit status.

    Example: isochrone lab exec sin -- ping -c 3 10.2.1.1
    """
    # click leaves the "--" that sets the command apart in its place.
    from lab.world import attach

    argv = attach(state_dir).command(host, command[1:] if command[0] == "--" else command)
    sys.stdout.flush()
    try:
        os.execvp(argv[0], argv)  # noqa: S606  # the user's own command, as a list
    except OSError as error:
        raise ToolMissing(f"cannot run {argv[0]}: {error.strerror}") from error


@lab.command()
@click.option("--src", default=None, metavar="SITE", help="Only from this site.")
@click.option("--dst", default=None, metavar="SITE", help="Only to this site.")
@click.option("--medium", type=click.Choice(MEDIA), default=None, help="Only over this medium.")
@click.option("--observed", is_flag=True, help="Instead, what the fabric's own stamps say of the packets it has delivered.")
@json_option
@state_dir_option
def truth(src: str | None, dst: str | None, medium: str | None, observed: bool, as_json: bool, state_dir: Path | None) -> None:
    """What every pair must measure over every medium: configured RTT, loss, bottleneck, MTU and hops of every path.

    With --observed: how many packets the fabric delivered from SRC to DST, how late it was with them (written to the
    receiver minus due by the model) and how long they were under way one way (written minus read from the sender). So an error
    of a measurement is the fabric's or the probe's. Answers of routers have no source.

    Example: isochrone lab truth --src sin --json
    """
    from lab.world import attach

    running = attach(state_dir)
    for site in (src, dst):
        if site is not None:
            running.topology.site(site)
    if observed:
        from lab.namespace_lab import NamespaceLab

        if not isinstance(running, NamespaceLab):
            raise UserError("the loopback lab keeps no stamps; only a lab of namespaces says what it observed")
        _observed(running.observed(), src, dst, medium, as_json=as_json)
        return
    pairs = [p for p in running.truth() if src in (None, p.src) and dst in (None, p.dst) and medium in (None, p.medium)]
    if as_json:
        emit_json([{**asdict(pair), "rtt_ms": ms(pair.rtt_ns)} for pair in pairs])
        return
    rows = [
        (p.src, p.dst, p.medium, p.address, ms(p.rtt_ns), p.loss_ratio * 100, p.bottleneck_bps and p.bottleneck_bps / 1e6, len(p.hops))
        for p in pairs
    ]
    table(["src", "dst", "medium", "address", "rtt ms", "loss %", "Mbit/s", "hops"], rows)


def _observed(found: list[dict[str, Any]], src: str | None, dst: str | None, medium: str | None, *, as_json: bool) -> None:
    """The stamps of the chosen pairs."""
    chosen = [p for p in found if src in (None, p["src"]) and dst in (None, p["dst"]) and medium in (None, p["medium"])]
    if as_json:
        emit_json(chosen)
        return
    late, way = ([p[key] for p in chosen] for key in ("lateness", "transit"))
    rows = [
        (
            p["src"], p["dst"], p["medium"], f"IPv{p['version']}", p["delivered"],
            a["p50_ns"] / 1e3, a["p99_ns"] / 1e3, a["max_ns"] / 1e3, ms(b["min_ns"]), ms(b["mean_ns"]), ms(b["max_ns"]),
        )
        for p, a, b in zip(chosen, late, way, strict=True)
    ]  # fmt: skip
    names = ["late p50 us", "late p99 us", "late max us", "way min ms", "way mean ms", "way max ms"]
    table(["src", "dst", "medium", "IP", "delivered", *names], rows)


@lab.command()
@json_option
def worlds(as_json: bool) -> None:
    """The built-in worlds, with a line on each.

    Example: isochrone lab worlds
    """
    from lab.topology import available, builtin

    found = [builtin(name) for name in available()]
    if as_json:
        emit_json([_summary(world) for world in found])
        return
    table(["world", "sites", "routers", "links", "what it is"], [(*list(_summary(world).values())[:4], world.title) for world in found])


def _summary(world: Topology) -> dict[str, Any]:
    return {
        "name": world.name,
        "sites": len(world.sites),
        "routers": len(world.routers),
        "links": len(world.links) // 2,
        "title": world.title,
        "serving": [site.id for site in world.sites if site.serves],
        "events": len(world.events),
        "congestion": len(world.congestion),
        "seed": world.seed,
    }


@lab.command("list")
@json_option
def list_(as_json: bool) -> None:
    """The labs of this user that run now, each in its own --state-dir.

    Example: isochrone lab list
    """
    from lab.state import running

    labs = [
        {"id": s.id, "world": s.topology["name"], "sites": len(s.namespaces), "pid": s.pid, "state_dir": s.state_dir} for s in running()
    ]
    if as_json:
        emit_json(labs)
        return
    table(["id", "world", "sites", "pid", "state dir"], [tuple(found.values()) for found in labs])


lab.add_command(change)
lab.add_command(congest)
lab.add_command(calm)
lab.add_command(play)
lab.add_command(status)
lab.add_command(from_matrix)
