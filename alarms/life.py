"""The life of alarms: opened, seen again, closed. Pure.

At most one alarm of a key is open. A condition that is open already is the same alarm, whoever found it; so an evaluation that is made
twice, or by two collectors, opens nothing twice. An alarm closes when its detector says that it is over, never because nobody looked,
but for one that nobody has seen for `forget`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from alarms.model import Alarm, Condition, new_id

__all__ = ["merged"]

#: How much later than it was seen a row may say so.
_SEEN = timedelta(minutes=5)
_CHANGE = 0.1


def merged(
    alarms: Sequence[Alarm],
    conditions: Iterable[Condition],
    ended: Mapping[str, str],
    *,
    now: datetime,
    forget: timedelta = timedelta(days=1),
) -> list[Alarm]:
    """The open alarms with what has become of them: those that are over are closed, and new ones come after them."""
    found = {condition.key: condition for condition in conditions}
    after = []
    for alarm in alarms:
        condition = found.pop(alarm.key, None)
        if condition is not None:
            after.append(_seen(alarm, condition, now))
        elif alarm.key in ended:
            after.append(replace(alarm, closed_at=now, close_reason=ended[alarm.key], updated_at=now))
        elif now - alarm.last_seen_at >= forget:
            after.append(replace(alarm, closed_at=now, close_reason="not seen any more", updated_at=now))
        else:
            after.append(alarm)
    return after + [_opened(condition, now) for condition in found.values()]


def _seen(alarm: Alarm, condition: Condition, now: datetime) -> Alarm:
    is_moved = alarm.severity != condition.severity or (
        _has_moved(alarm.value, condition.value)
        # Of what is silent only the time goes on.
        and condition.kind != "data_missing"
    )
    if not is_moved and now - alarm.last_seen_at < _SEEN:
        return alarm
    return replace(
        alarm,
        severity=condition.severity,
        summary=condition.summary,
        value=condition.value,
        baseline=condition.baseline,
        detail=condition.detail,
        last_seen_at=now,
        updated_at=now,
    )


def _has_moved(before: float | None, now: float | None) -> bool:
    if before is None or now is None:
        return before is not now
    return abs(now - before) > _CHANGE * max(abs(before), abs(now))


def _opened(condition: Condition, now: datetime) -> Alarm:
    return Alarm(
        id=new_id(condition.key, now),
        key=condition.key,
        kind=condition.kind,
        severity=condition.severity,
        group_key="",
        group_title="",
        summary=condition.summary,
        sites=condition.sites,
        src=condition.src,
        dst=condition.dst,
        medium=condition.medium,
        agent=condition.agent,
        probe_type=condition.probe_type,
        workload=condition.workload,
        value=condition.value,
        baseline=condition.baseline,
        unit=condition.unit,
        since=condition.since,
        opened_at=now,
        last_seen_at=now,
        updated_at=now,
        detail=condition.detail,
    )
