"""`isochrone alarms`: what has changed for the worse, and who is told of it."""

from __future__ import annotations

import getpass
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import click

from app.output import emit_json, json_option, note, table, warehouse_option
from app.quantities import duration_s
from records.errors import IsochroneError, NoAnswer, OutsideError, UserError

if TYPE_CHECKING:
    from alarms.model import Alarm, Silence

__all__ = ["alarms"]

_LONGEST = timedelta(days=365)
#: Of each that is watched so many routes are named: an old one among them says what staying would cost.
_ROUTES = 48
#: So many are printed; JSON has all.
_SHOWN = 8

_config = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file of the alarms; an example with every key is deploy/alarms.toml.  [default: the defaults, and no webhook]",
)


@click.group()
def alarms() -> None:
    """See and answer alarms: missing data, shifts of RTT and loss, changed paths, routes that flipped.

    A collector judges them once a minute; `isochrone collector --alarms FILE` sends them.
    """


@alarms.command("list")
@click.option("--all", "is_all", is_flag=True, help="Those that closed in the last 30 days too.")
@click.option("--kind", metavar="KIND", help="Only alarms of this kind.")
@click.option("--site", metavar="SITE", help="Only alarms about this site.")
@warehouse_option
@json_option
def list_(is_all: bool, kind: str | None, site: str | None, warehouse: str, as_json: bool) -> None:
    """List the alarms that are open, grouped by their cause.

    Example: isochrone alarms list
    """
    from alarms.model import alarm_json
    from warehouse import open_warehouse

    _check_kind(kind)
    now = datetime.now(UTC)
    with open_warehouse(warehouse) as wh:
        found, silences = _read(wh, now, closed_for=timedelta(days=30) if is_all else timedelta(0))
    found = [alarm for alarm in found if kind in {None, alarm.kind} and (site is None or site in alarm.sites)]
    found.sort(key=lambda alarm: (not alarm.is_open, alarm.group_key, alarm.opened_at))
    if as_json:
        emit_json([alarm_json(alarm, is_silenced=_is_silenced(alarm, silences, now)) for alarm in found])
        return
    if not found:
        said = " and ".join(f"{name} {value}" for name, value in (("kind", kind), ("site", site)) if value is not None)
        of = f" of {said}" if said else ""
        note(f"there was no alarm{of} in the last 30 days" if is_all else f"no alarm{of} is open")
        return
    rows = [[alarm.id, _state(alarm, silences, now), alarm.severity, alarm.kind, _age(now - alarm.since), alarm.summary] for alarm in found]
    table(["alarm", "state", "severity", "kind", "for", "what"], rows)


@alarms.command()
@click.argument("alarm_id", metavar="ALARM")
@warehouse_option
@json_option
def show(alarm_id: str, warehouse: str, as_json: bool) -> None:
    """Show all of one alarm, and who was told of it.

    Example: isochrone alarms show 3f2a9c01d4e5
    """
    from alarms.model import alarm_json
    from warehouse import alarms as kept
    from warehouse import open_warehouse

    now = datetime.now(UTC)
    with open_warehouse(warehouse) as wh:
        found, silences = _read(wh, now, closed_for=timedelta(days=400))
        alarm = _the(found, alarm_id)
        notices = kept.notices_of(wh, alarm.id)
    document = alarm_json(alarm, is_silenced=_is_silenced(alarm, silences, now))
    document["notices"] = notices
    if as_json:
        emit_json(document)
        return
    document.pop("notices")
    document["runbook"] = f"docs/alarms.md#{alarm.kind}"
    for name, value in document.items():
        if value is not None:
            click.echo(f"{name:16} {_said(value)}")
    for one in notices:
        outcome = f"sent {_said(one['sent_at'])}" if one["sent_at"] else f"given up: {one['error']}" if one["failed_at"] else "waits"
        click.echo(f"{'notice':16} {one['receiver']}: {one['status']}, {outcome} ({one['attempt_count']} attempts)")


@alarms.command()
@_config
@click.option("--tokens", type=click.Path(path_type=Path), metavar="FILE", help="Token file: agents revoked in it are not missed.")
@click.option(
    "--since", "since", default="30m", show_default=True, metavar="TIME", help="How much of the past is judged; the rest is learnt."
)
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@warehouse_option
@json_option
def evaluate(config: Path | None, tokens: Path | None, since: str, warehouse: str, as_json: bool, *, dry_run: bool) -> None:
    """Judge the alarms once, now, as a collector does every minute; what is due to webhooks is sent.

    Example: isochrone alarms evaluate --dry-run
    """
    from alarms.courier import Courier
    from alarms.model import alarm_json
    from alarms.watch import Watch
    from app.alarm_watch import check_workloads, revoked_in, routes_by_command, settings_of
    from warehouse import open_warehouse
    from warehouse.roster_file import RosterFile

    settings = settings_of(config)
    check_workloads(settings)
    token_file = None if tokens is None else RosterFile(tokens)
    now, replay = datetime.now(UTC), _span(since, "--since")
    with open_warehouse(warehouse, mode="read" if dry_run else "write") as wh:
        watch = Watch(wh, settings, now - _LONGEST, revoked=lambda: revoked_in(token_file), replay=replay, is_dry=dry_run)
        routes = None
        if settings.watch:
            try:
                routes = routes_by_command(warehouse, settings)()
            except OutsideError as error:  # all the rest is judged without them
                note(f"the watched routes cannot be looked at now: {error}")
        done = watch.step(now, routes)
        if not dry_run:
            courier = Courier(wh, settings.webhooks)
            courier.round()
    if as_json:
        emit_json(
            {
                "dry_run": dry_run,
                "open": len(done.open),
                "opened": [alarm_json(alarm) for alarm in done.opened],
                "closed": [alarm_json(alarm) for alarm in done.closed],
                "notices": len(done.notices),
                "held": done.held,
                "links": done.link_count,
                "judged_s": replay.total_seconds(),
                "begun": dict(done.begun),
                "seconds": done.seconds,
                "false_alarms_per_series_day": settings.false_per_series_day,
            }
        )
        return
    verb = "would be " if dry_run else ""
    for word, some in (("opened", done.opened), ("closed", done.closed)):
        for alarm in some:
            click.echo(f"{verb}{word}: {alarm.id} {alarm.severity} {alarm.kind}: {alarm.summary}")
    days = done.link_count * replay / timedelta(days=1)
    counts = ", ".join(f"{done.begun.get(kind, 0)} {kind}" for kind in ("rtt_shift", "loss_shift", "path_change"))
    note(
        f"in the last {since} began, and may be over by now: {counts}; of RTT shifts chance alone makes at most "
        f"{days * settings.false_per_series_day:.2g} in so many links and days"
    )
    note(
        f"{done.link_count} links judged in {done.seconds:.2f} s: {len(done.open)} alarms {verb}open, "
        f"{len(done.opened)} of them new, {len(done.closed)} {verb}closed, {len(done.notices)} notices"
    )


@alarms.command()
@click.option("--alarm", "alarm_id", metavar="ALARM", help="Only this alarm.")
@click.option("--kind", metavar="KIND", help="Alarms of this kind.")
@click.option("--site", metavar="SITE", help="Alarms about this site.")
@click.option("--agent", metavar="AGENT", help="Alarms about this agent.")
@click.option("--for", "span", default="2h", show_default=True, metavar="TIME", help="For how long.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for whoever wonders.")
@click.option("--by", default=None, metavar="NAME", help="Who does it.  [default: your user name]")
@click.option("--end", "end_id", metavar="SILENCE", help="End this silence now instead.")
@click.option("--list", "is_list", is_flag=True, help="List the silences that hold instead.")
@warehouse_option
@json_option
def silence(
    alarm_id: str | None,
    kind: str | None,
    site: str | None,
    agent: str | None,
    span: str,
    reason: str,
    by: str | None,
    end_id: str | None,
    warehouse: str,
    as_json: bool,
    *,
    is_list: bool,
) -> None:
    """Send nothing of some alarms for a while; they are judged, kept and shown all the same.

    \b
    Example: isochrone alarms silence --site sin --for 4h --reason "fibre work"
    Example: isochrone alarms silence --list
    """
    from alarms.keep import silence_row
    from alarms.model import Silence
    from warehouse import alarms as kept
    from warehouse import open_warehouse

    _check_kind(kind)
    now = datetime.now(UTC)
    chosen = {"alarm": alarm_id, "kind": kind, "site": site, "agent": agent}
    if sum([is_list, end_id is not None, any(chosen.values())]) != 1:
        raise UserError("give what to silence (--alarm, --kind, --site or --agent), or --end SILENCE, or --list")
    until = now + _span(span, "--for")
    if until <= now:
        raise UserError(f"--for {span}: longer than nothing; `isochrone alarms silence --end SILENCE` ends one")
    with open_warehouse(warehouse, mode="read" if is_list else "write") as wh:
        found, holds = _read(wh, now, closed_for=timedelta(0))
        if is_list:
            changed = holds
        elif end_id is not None:
            changed = [replace(one, until=now) for one in holds if one.id == end_id]
            if not changed:
                raise UserError(f"no silence {end_id!r} holds; `isochrone alarms silence --list` names those that do")
        else:
            if alarm_id is not None:
                chosen["alarm"] = _the(found, alarm_id).id  # whole: a silence compares ids, and knows no beginnings
            changed = [Silence(id=token_hex(4), until=until, created_at=now, created_by=by or _user(), reason=reason, **chosen)]
        if not is_list:
            with kept.changing(wh) as cursor:
                kept.put_silences(cursor, [silence_row(one) for one in changed])
    if not is_list and end_id is None and not any(changed[0].covers(alarm, now) for alarm in found):
        note(f"of the alarms that are open now it covers none: {_what(changed[0])}; it holds for what comes, unless a name is misspelt")
    if as_json:
        emit_json([silence_row(one) for one in changed])
        return
    if is_list:
        table(
            ["silence", "until", "what", "by", "reason"],
            [[one.id, f"{one.until:%Y-%m-%d %H:%M} UTC", _what(one), one.created_by, one.reason] for one in changed],
        )
        return
    (one,) = changed
    note(f"silence {one.id} of {_what(one)} " + (f"until {one.until:%Y-%m-%d %H:%M} UTC" if end_id is None else "has ended"))


@alarms.command()
@click.argument("alarm_ids", metavar="ALARM...", nargs=-1, required=True)
@click.option("--by", default=None, metavar="NAME", help="Who takes it on.  [default: your user name]")
@warehouse_option
@json_option
def ack(alarm_ids: Sequence[str], by: str | None, warehouse: str, as_json: bool) -> None:
    """Take alarms on: they stay open, and are not told of again.

    Example: isochrone alarms ack 3f2a9c01d4e5
    """
    from alarms.keep import alarm_row
    from alarms.model import alarm_json
    from warehouse import alarms as kept
    from warehouse import open_warehouse

    now = datetime.now(UTC)
    with open_warehouse(warehouse, mode="write") as wh, kept.changing(wh) as cursor:
        found, _ = _read(cursor, now, closed_for=timedelta(0))
        changed = [replace(_the(found, name), acknowledged_at=now, acknowledged_by=by or _user(), updated_at=now) for name in alarm_ids]
        kept.put_alarms(cursor, [alarm_row(alarm) for alarm in changed])
    if as_json:
        emit_json([alarm_json(alarm) for alarm in changed])
        return
    for alarm in changed:
        note(f"{alarm.acknowledged_by} has taken on {alarm.id}: {alarm.summary}")


@alarms.command("test-webhook")
@_config
@click.option("--name", metavar="NAME", help="Only this webhook.  [default: all]")
@json_option
def test_webhook(config: Path | None, name: str | None, as_json: bool) -> None:
    """Send one notice of a made-up alarm to the configured webhooks, and say what they answer.

    Example: isochrone alarms test-webhook --config alarms.toml
    """
    from alarms.courier import post
    from alarms.notices import payload
    from app.alarm_watch import settings_of

    settings = settings_of(config)
    chosen = [webhook for webhook in settings.webhooks if name in {None, webhook.name}]
    if not chosen:
        known = ", ".join(webhook.name for webhook in settings.webhooks) or "none"
        raise UserError(f"there is no webhook{'' if name is None else f' {name!r}'} to send to; configured: {known} (--config)")
    now = datetime.now(UTC)
    results = []
    for webhook in chosen:
        body = json.dumps(payload(webhook.name, "test", "firing", [_example(now)], settings.notify.external_url)).encode()
        answer = post(webhook, body, f"test-{token_hex(4)}", now)
        results.append({"webhook": webhook.name, "ok": answer.error is None, "error": answer.error})
    if as_json:
        emit_json(results)
    else:
        for one in results:
            note(f"{one['webhook']}: {'took it' if one['ok'] else one['error']}")
    failed = [str(one["webhook"]) for one in results if not one["ok"]]
    if failed:
        raise OutsideError(f"{', '.join(failed)} did not take the notice")


@alarms.command()
@click.argument("watched", metavar='"SITE WORKLOAD"...', nargs=-1, required=True)
@click.option("--window", default="10m", show_default=True, metavar="TIME", help="Routes are planned from the measurements of this long.")
@warehouse_option
@json_option
def routes(watched: Sequence[str], window: str, warehouse: str, as_json: bool) -> None:
    """Name the best routes of now for the sites and workloads that alarms watch; a collector asks this every few minutes.

    Example: isochrone alarms routes "sin chat"
    """
    from app import answers
    from app.alarm_watch import choices_of
    from app.opening import Opening
    from routing.request import Request

    pairs = []
    for each in watched:
        source, _, workload = each.strip().partition(" ")
        if not workload:
            raise UserError(f'{each!r} is not "SITE WORKLOAD", as in "metro:lagos chat"')
        pairs.append((source, answers.workload_of(workload.strip())))
    found: list[dict[str, Any]] = []
    failed: list[IsochroneError] = []
    span_s = _span(window, "--window").total_seconds()
    with Opening(warehouse, span_s, span_s) as opening:
        known = opening.links()
        if not known.links:
            raise NoAnswer(f"the warehouse at {known.location} holds no link measured in the last {window}; is an agent sending to it?")
        for source, workload_asked in pairs:
            named: list[dict[str, Any]] = []
            error = None
            try:
                request = Request(source=answers.site_id(source, known), workload=workload_asked, k=_ROUTES)
                chosen = choices_of(answers.route_answer(known, request, moments=opening.moments))
                named = [{"sites": list(one.sites), "pool": one.pool, "value_ms": one.value_ms} for one in chosen]
            except (UserError, NoAnswer) as why:  # one that has no route does not keep the others from being looked at
                error = str(why)
                failed.append(why)
            found.append({"source": source, "workload": workload_asked.name, "routes": named, "error": error})
    if len(failed) == len(pairs):
        raise failed[0]
    if as_json:
        emit_json(found)
        return
    for one in found:
        if one["error"] is not None:
            note(f"{one['source']} {one['workload']}: {one['error']}")
    rows = [
        [one["source"], one["workload"], " → ".join(r["sites"]), r["pool"], r["value_ms"]] for one in found for r in one["routes"][:_SHOWN]
    ]
    table(["from", "workload", "route", "pool", "TTFT p50 (ms)"], rows)


# -- small parts --------------------------------------------------------------------------------------------------------


def _read(wh: Any, now: datetime, *, closed_for: timedelta) -> tuple[list[Alarm], list[Silence]]:
    from alarms.keep import alarm_of, silence_of
    from warehouse import alarms as kept

    rows = kept.alarm_rows(wh, closed_since=now - closed_for) if closed_for else kept.alarm_rows(wh)
    return [alarm_of(row) for row in rows], [silence_of(row) for row in kept.silence_rows(wh, now=now)]


def _the(found: Sequence[Alarm], name: str) -> Alarm:
    chosen = [alarm for alarm in found if alarm.id.startswith(name)] if len(name) >= 4 else []
    if len(chosen) != 1:
        what = "several alarms begin with" if chosen else "there is no open alarm"
        raise NoAnswer(f"{what} {name!r}; `isochrone alarms list` names them")
    return chosen[0]


def _check_kind(kind: str | None) -> None:
    from alarms.model import KINDS

    if kind is not None and kind not in KINDS:
        raise UserError(f"there is no kind {kind!r}; there are {', '.join(KINDS)}")


def _is_silenced(alarm: Alarm, silences: Sequence[Silence], now: datetime) -> bool:
    return any(one.covers(alarm, now) for one in silences)


def _state(alarm: Alarm, silences: Sequence[Silence], now: datetime) -> str:
    if not alarm.is_open:
        return f"closed ({alarm.close_reason})"
    if _is_silenced(alarm, silences, now):
        return "silenced"
    return "open" if alarm.acknowledged_by is None else f"taken on by {alarm.acknowledged_by}"


def _what(silence: Silence) -> str:
    named = {"alarm": silence.alarm, "kind": silence.kind, "site": silence.site, "agent": silence.agent}
    return ", ".join(f"{name} {value}" for name, value in named.items() if value is not None)


def _span(text: str, option: str) -> timedelta:
    try:
        return timedelta(seconds=duration_s(text, most_s=_LONGEST.total_seconds(), most="a year (365d)"))
    except UserError as error:
        raise UserError(f"{option}: {error}") from error


def _age(span: timedelta) -> str:
    seconds = max(0, round(span.total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _said(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _example(now: datetime) -> Alarm:
    from alarms.model import Alarm

    return Alarm(
        id="000000000000",
        key="test",
        kind="rtt_shift",
        severity="info",
        group_key="test",
        group_title="test",
        summary="a test of this webhook by `isochrone alarms test-webhook`: nothing is wrong",
        sites=("a", "b"),
        src="a",
        dst="b",
        medium="internet",
        agent=None,
        probe_type=None,
        workload=None,
        value=None,
        baseline=None,
        unit=None,
        since=now,
        opened_at=now,
        last_seen_at=now,
        updated_at=now,
    )
