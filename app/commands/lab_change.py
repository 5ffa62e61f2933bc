"""`isochrone lab change`, `play` and `status`: what happens to a lab while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from app.commands.lab_place import attached, do, state_dir_option
from app.output import emit_json, json_option, note, table
from app.quantities import Number
from records.errors import UserError
from records.link import MEDIA
from records.units import MS

__all__ = ["change", "play", "status"]

_LINK_OPS = ("fail", "restore", "degrade", "shift")
_SITE_OPS = ("fail-site", "restore-site")
_ROUTER_OPS = ("set-router", "restore-router")


@click.command()
@click.argument("op", type=click.Choice([*_LINK_OPS, *_SITE_OPS, *_ROUTER_OPS]))
@click.argument("node")
@click.argument("other", required=False)
@click.option("--delay-ms", type=Number(0, 10_000), default=None, help="New one-way delay (degrade).")
@click.option("--jitter-ms", type=Number(0, 10_000), default=None, help="New mean jitter (degrade).")
@click.option("--loss", type=Number(0, 1), default=None, help="New loss ratio, 0..1 (degrade).")
@click.option("--rate", default=None, metavar="RATE", help="New rate, such as 10Mbit/s (degrade).")
@click.option("--mtu", type=click.IntRange(1280, 65535), default=None, help="New longest packet in bytes (degrade).")
@click.option("--metric", type=click.IntRange(1), default=None, help="New routing weight; a link has its one-way delay in ns (shift).")
@click.option("--silent/--speaking", default=None, help="Whether the router sends any ICMP (set-router).")
@click.option("--icmp-per-s", type=click.IntRange(1), default=None, help="ICMP errors a second at most (set-router).")
@click.option("--medium", type=click.Choice(MEDIA), default=None, help="Which link, where several media join the two nodes.")
@click.option("--one-way", is_flag=True, help="Only from NODE to OTHER.")
@state_dir_option
def change(op: str, node: str, other: str | None, state_dir: Path | None, medium: str | None, one_way: bool, **values: Any) -> None:
    """Change a link, a site or a router while the lab runs.

    \b
    fail, restore, degrade, shift   the link between NODE and OTHER (sites or routers), both ways
    fail-site, restore-site         all links of the site NODE
    set-router, restore-router      whether and how often the router NODE sends ICMP
    restore brings back what the topology says.

    Example: isochrone lab change degrade bb-sin bb-nrt --delay-ms 80
    """
    request: dict[str, object] = {"op": op.replace("-", "_")}
    if op in _LINK_OPS:
        if other is None:
            raise UserError(f"{op} changes a link and needs both its ends: isochrone lab change {op} {node} OTHER")
        request["between"] = [node, other]
    elif other is not None:
        raise UserError(f"{op} takes one {'site' if op in _SITE_OPS else 'router'}, not also {other!r}")
    else:
        request["site" if op in _SITE_OPS else "router"] = node
    request |= {key: value for key, value in {**values, "medium": medium, "one_way": one_way or None}.items() if value is not None}
    do(attached(state_dir), request)


@click.command()
@click.argument("events", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--check", is_flag=True, help="Only read the file and say what would happen.")
@json_option
@state_dir_option
def play(events: Path, check: bool, as_json: bool, state_dir: Path | None) -> None:
    """Start the script of the file EVENTS now: a TOML file of [[events]] tables, whose times count from this moment.

    Example: isochrone lab play blackout.toml
    """
    from lab.script import event_table, parse_events

    running = attached(state_dir)
    script = parse_events(events, running.topology)
    if not check:
        running.play(script)
    if as_json:
        emit_json([event_table(event) for event in script])
        return
    rows = [
        (table_["at_s"], table_.get("every_s"), table_.get("until_s"), str(event.action))
        for event in script
        for table_ in [event_table(event)]
    ]
    table(["at s", "every s", "until s", "what"], rows)
    note(f"{len(script)} events {'read; nothing was started' if check else 'started; `isochrone lab status` says how far they are'}")


@click.command()
@click.option("--links", is_flag=True, help="Packet counts of every link that carried, lost or dropped any, too.")
@json_option
@state_dir_option
def status(links: bool, as_json: bool, state_dir: Path | None) -> None:
    """How a running lab is: up time, events done and to come, what has been changed, what is congested, packet counts.

    Example: isochrone lab status --json
    """
    running = attached(state_dir)
    found = running.status()
    head = {"id": running.state.id, "world": running.topology.name, "lab": running.kind, "state_dir": str(running.state_dir)}
    if as_json:
        emit_json({**head, **{key: value for key, value in found.items() if key != "ok"}})
        return
    click.echo(f"{head['world']} ({head['lab']}), up {found['up_s']:.0f} s, in {head['state_dir']}")
    click.echo(
        "packets   " + ", ".join(f"{found[key]:,} {key.replace('_', ' ')}" for key in ("accepted", "delivered", "refused", "under_way"))
    )
    events = found["events"]
    following = f"the next in {events['ahead'][0]['at_s'] - found['up_s']:.1f} s" if events["ahead"] else "none to come"
    click.echo(f"events    {events['done']:,} done, {following}")
    click.echo(f"links     {len(found['edited']):,} changed, {len(found['congested']):,} congested")
    _print_tables(found, links=links)


def _key(entry: dict[str, Any]) -> tuple[str, str, str]:
    return entry["src"], entry["dst"], entry["medium"]


def _now(entry: dict[str, Any], found: dict[str, Any]) -> str:
    """What is the matter with a link that is not as the topology says."""
    if not entry["up"]:
        return "down"
    return ", ".join(
        word for word, of in (("changed", "edited"), ("congested", "congested")) if _key(entry) in {_key(e) for e in found[of]}
    )


def _print_tables(found: dict[str, Any], *, links: bool) -> None:
    """What is not as the topology says, the events around now, and the counters when asked for."""
    events = found["events"]
    if events["last"] or events["ahead"]:
        click.echo()
        rows = [(e["at_s"], "done" if "problem" not in e else f"failed: {e['problem']}", e["action"]) for e in events["last"][-10:]]
        table(["at s", "", "event"], [*rows, *((e["at_s"], "to come", e["action"]) for e in events["ahead"][:10])])
    if found["changed"]:
        click.echo()
        rows_now = [
            (
                *_key(e),
                _now(e, found),
                e["delay_ns"] / MS,
                e["jitter_ns"] / MS,
                e["loss_ratio"] * 100,
                e["rate_bps"] and e["rate_bps"] / 1e6,
                e["mtu"],
                e["metric"],
            )
            for e in found["changed"]
        ]
        table(["src", "dst", "medium", "now", "delay ms", "jitter ms", "loss %", "Mbit/s", "mtu", "metric"], rows_now)
    if found["changed_routers"]:
        click.echo()
        table(["router", "silent", "icmp/s"], [(r["id"], r["silent"], r["icmp_per_s"]) for r in found["changed_routers"]])
    if links:
        click.echo()
        keys = ("src", "dst", "medium", "up", "carried", "carried_bytes", "lost", "dropped")
        table(
            ["src", "dst", "medium", "up", "carried", "bytes", "lost", "dropped"], [tuple(e[key] for key in keys) for e in found["links"]]
        )
