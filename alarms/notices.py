"""What is sent to whom, and when. Pure.

For each webhook and group of alarms, going by what it was last told (`Told`, from the kept notices):

1. A group is told of `group_wait` after its first alarm opened: what comes of one cause is then one notice.
2. An alarm that joins later is told of `group_interval` after the notice before; so is a group that comes back.
3. A group that stays open is told again after `repeat`, unless all of it is acknowledged.
4. When the last of it closes, that is told once, if the group was: also of what was told and has fallen below the least severity since.
5. Nothing is told of what is silenced or below the least severity. Silenced is not resolved: nothing is said at all. What was told and
   has ended meanwhile is told when the silence is over, however long that took.
6. No more than `per_hour` notices an hour: what is over waits, the worst first.
7. What is dated far ahead is from before the clock was set back: it is waited for no longer, and what is told next is dated after it.

The payload is that of Prometheus Alertmanager's webhook, version 4, so that whatever takes those takes ours.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Literal
from urllib.parse import urlencode

from alarms.groups import severity_of, title_of
from alarms.model import Alarm, Silence, rank_of
from alarms.settings import Settings, Webhook

__all__ = ["SIGNATURE", "Draft", "Told", "drafts", "payload", "signature", "unresolved"]

SIGNATURE = "Isochrone-Signature"
Status = Literal["firing", "resolved"]
_NEVER = "0001-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Told:
    """The newest notice of a group to a webhook: of which open alarms, and when."""

    status: Status
    alarm_ids: frozenset[str]
    at: datetime


@dataclass(frozen=True, slots=True)
class Draft:
    """A notice to be kept and sent. alarm_ids: the open alarms it tells of. at: its date, later than that of the group's one before."""

    id: str
    receiver: str
    group_key: str
    status: Status
    alarm_ids: tuple[str, ...]
    payload: str
    at: datetime


def drafts(
    alarms: Sequence[Alarm],
    silences: Sequence[Silence],
    told: Mapping[tuple[str, str], Told],
    recent: Mapping[str, int],
    settings: Settings,
    now: datetime,
) -> tuple[list[Draft], int]:
    """The notices that are due, and how many more are held back by `per_hour`.

    alarms   open ones, those that closed lately, and those that were told as open last (`unresolved`)
    told     (webhook, group) -> what it was last told
    recent   webhook -> notices of the last hour
    """
    made: list[Draft] = []
    held = 0
    loud = [alarm for alarm in alarms if not any(silence.covers(alarm, now) for silence in silences)]
    for webhook in settings.webhooks:
        least = rank_of(settings.min_severity(webhook))
        # What it was told of is its business until it is told the end, however little is left of it.
        known = unresolved({key: last for key, last in told.items() if key[0] == webhook.name})
        theirs = {alarm.id for alarm in alarms if webhook.takes(alarm.kind) and (alarm.id in known or rank_of(alarm.severity) >= least)}
        open_keys = {alarm.group_key for alarm in alarms if alarm.is_open and alarm.id in theirs}
        groups: dict[str, list[Alarm]] = {}
        for alarm in loud:
            if alarm.id in theirs:
                groups.setdefault(alarm.group_key, []).append(alarm)
        due: list[tuple[str, Status, list[Alarm]]] = []
        for key in sorted({*groups, *(group for name, group in told if name == webhook.name)}):
            last = told.get((webhook.name, key))
            status = _due(groups.get(key, []), last, is_open=key in open_keys, least=least, settings=settings, now=now)
            if status is not None:
                since = last.alarm_ids if last is not None else frozenset()
                due.append((key, status, [alarm for alarm in groups.get(key, []) if alarm.is_open or alarm.id in since]))
        due = [each for each in due if each[2]]
        due.sort(key=lambda each: (-rank_of(severity_of(each[2])), each[0]))
        room = max(0, settings.notify.per_hour - recent.get(webhook.name, 0))
        held += len(due[room:])
        for key, status, members in due[:room]:
            last = told.get((webhook.name, key))
            at = now if last is None else max(now, last.at + timedelta(microseconds=1))
            made.append(_draft(webhook, key, status, members, settings, at))
    return made, held


def unresolved(told: Mapping[tuple[str, str], Told]) -> set[str]:
    """Ids of the alarms that somebody was told of and holds to be open."""
    return {each for last in told.values() if last.status == "firing" for each in last.alarm_ids}


def _due(members: Sequence[Alarm], last: Told | None, *, is_open: bool, least: int, settings: Settings, now: datetime) -> Status | None:
    rules = settings.notify
    wait, interval, repeat = (timedelta(seconds=each) for each in (rules.group_wait_s, rules.group_interval_s, rules.repeat_s))
    live = [alarm for alarm in members if alarm.is_open]
    wanted = [alarm for alarm in live if alarm.acknowledged_at is None and rank_of(alarm.severity) >= least]
    if last is None or last.status == "resolved":
        if not any(_is_ago(alarm.opened_at, wait, now) for alarm in wanted):
            return None
        return "firing" if last is None or _is_ago(last.at, interval, now) else None
    if not is_open:
        return "resolved"
    if any(alarm.id not in last.alarm_ids for alarm in wanted) and _is_ago(last.at, interval, now):
        return "firing"
    return "firing" if wanted and now - last.at >= repeat else None


def _is_ago(at: datetime, span: timedelta, now: datetime) -> bool:
    # Further ahead than that is no matter of two evaluators whose clocks differ a little: the clock was set back.
    return abs(now - at) >= span


def _draft(webhook: Webhook, key: str, status: Status, members: Sequence[Alarm], settings: Settings, at: datetime) -> Draft:
    ids = tuple(alarm.id for alarm in members if alarm.is_open)
    name = sha256("\0".join((webhook.name, key, status, at.isoformat())).encode()).hexdigest()[:16]
    text = json.dumps(payload(webhook.name, key, status, members, settings.notify.external_url), ensure_ascii=False, separators=(",", ":"))
    return Draft(name, webhook.name, key, status, ids, text, at)


def payload(receiver: str, key: str, status: Status, members: Sequence[Alarm], external_url: str) -> dict[str, Any]:
    """The document that is sent; see docs/alarms.md."""
    alerts = [_alert(alarm, external_url) for alarm in members]
    labels = [alert["labels"] for alert in alerts]
    common = {name: value for name, value in labels[0].items() if all(each.get(name) == value for each in labels[1:])} if labels else {}
    return {
        "version": "4",
        "groupKey": key,
        "truncatedAlerts": 0,
        "status": status,
        "receiver": receiver,
        "groupLabels": {"cause": key},
        "commonLabels": common,
        "commonAnnotations": {"summary": title_of(key, members)},
        "externalURL": external_url,
        "alerts": alerts,
    }


def _alert(alarm: Alarm, external_url: str) -> dict[str, Any]:
    named = {name: getattr(alarm, name) for name in ("src", "dst", "medium", "agent", "probe_type", "workload")}
    return {
        "status": "firing" if alarm.is_open else "resolved",
        "labels": {
            "alertname": alarm.kind,
            "severity": alarm.severity,
            **{name: value for name, value in named.items() if value is not None},
        },
        "annotations": {
            "summary": alarm.summary,
            "runbook": f"docs/alarms.md#{alarm.kind}",
            **({"reason": alarm.close_reason} if alarm.close_reason is not None else {}),
        },
        "startsAt": _time(alarm.since),
        "endsAt": _NEVER if alarm.closed_at is None else _time(alarm.closed_at),
        "generatorURL": f"{external_url.rstrip('/')}{page_of(alarm)}" if external_url else "",
        "fingerprint": alarm.id,
    }


def page_of(alarm: Alarm) -> str:
    """The page of the dashboard that shows what an alarm is about, as a path."""
    if alarm.src is not None and alarm.dst is not None:
        return "/pair?" + urlencode({"src": alarm.src, "dst": alarm.dst})
    if alarm.agent is not None:
        return "/quality"
    return "/routes?" + urlencode({"src": alarm.src or "", "workload": alarm.workload or ""})


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def signature(secret: bytes, body: bytes, at: datetime) -> str:
    """The header `Isochrone-Signature`: ``t=SECONDS,v1=HEX``, an HMAC-SHA256 over the seconds, a full stop and the body."""
    seconds = int(at.timestamp())
    return f"t={seconds},v1={hmac.new(secret, f'{seconds}.'.encode() + body, sha256).hexdigest()}"
