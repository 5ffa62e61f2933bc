"""Alarms, silences and notices as rows of the warehouse, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from alarms.model import Alarm, Silence
from alarms.notices import Draft, Told

__all__ = ["alarm_of", "alarm_row", "notice_row", "silence_of", "silence_row", "told_of"]

Row = Mapping[str, Any]


def alarm_of(row: Row) -> Alarm:
    """The alarm of a row."""
    values = dict(row)
    since, sites, detail = values.pop("since_at"), tuple(values.pop("sites")), json.loads(values.pop("detail"))
    return Alarm(since=since, sites=sites, detail=detail, **values)


def alarm_row(alarm: Alarm) -> dict[str, Any]:
    """The row of an alarm."""
    names = [name for name in Alarm.__dataclass_fields__ if name not in {"since", "detail", "sites"}]
    return {
        **{name: getattr(alarm, name) for name in names},
        "sites": list(alarm.sites),
        "since_at": alarm.since,
        "detail": json.dumps(dict(alarm.detail), ensure_ascii=False),
    }


def silence_of(row: Row) -> Silence:
    """The silence of a row."""
    values = dict(row)
    return Silence(until=values.pop("until_at"), alarm=values.pop("alarm_id"), **values)


def silence_row(silence: Silence) -> dict[str, Any]:
    """The row of a silence."""
    names = [name for name in Silence.__dataclass_fields__ if name not in {"until", "alarm"}]
    return {**{name: getattr(silence, name) for name in names}, "until_at": silence.until, "alarm_id": silence.alarm}


def told_of(rows: Iterable[Row]) -> tuple[dict[tuple[str, str], Told], dict[str, int]]:
    """What each webhook was last told of each group, and how many notices it got in the last hour."""
    told: dict[tuple[str, str], Told] = {}
    recent: dict[str, int] = {}
    for row in rows:
        told[row["receiver"], row["group_key"]] = Told(row["status"], frozenset(row["alarm_ids"]), row["created_at"])
        recent[row["receiver"]] = row["recent_count"]
    return told, recent


def notice_row(draft: Draft, now: datetime) -> dict[str, Any]:
    """The row of a notice that waits to be sent."""
    return {
        "id": draft.id,
        "receiver": draft.receiver,
        "group_key": draft.group_key,
        "status": draft.status,
        "alarm_ids": list(draft.alarm_ids),
        "payload": draft.payload,
        "created_at": draft.at,
        "attempt_count": 0,
        "next_at": now,
        "sent_at": None,
        "failed_at": None,
        "error": None,
    }
