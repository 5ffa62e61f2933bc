"""The words of alarms: what a detector finds (a condition), what is kept of it (an alarm), and how sure and how bad it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal, get_args

__all__ = ["KINDS", "SEVERITIES", "Alarm", "Condition", "Kind", "Severity", "Silence", "alarm_json", "new_id", "rank_of"]

Kind = Literal["data_missing", "rtt_shift", "loss_shift", "path_change", "route_flip"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Severity = Literal["info", "warning", "critical"]
#: From the least to the greatest.
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


def rank_of(severity: Severity) -> int:
    """0 for the least severity."""
    return SEVERITIES.index(severity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What a detector holds to be so at the moment.

    key          tells this condition from all others, whatever its numbers: kind and whom it is about
    sites        whom it is about, for grouping: the sites of the pair or route, or the agent's
    src .. workload   which of them name it; None: not of this kind
    value, baseline   as it is and as it was, in `unit`; None: not known
    since        when it began, by the measurements
    detail       what the detector needs to go on after a restart, and more to show
    """

    key: str
    kind: Kind
    severity: Severity
    summary: str
    sites: tuple[str, ...]
    since: datetime
    src: str | None = None
    dst: str | None = None
    medium: str | None = None
    agent: str | None = None
    probe_type: str | None = None
    workload: str | None = None
    value: float | None = None
    baseline: float | None = None
    unit: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A condition with its life. closed_at None: open. acknowledged_by None: by nobody. group_key: its cause, see `alarms.groups`."""

    id: str
    key: str
    kind: Kind
    severity: Severity
    group_key: str
    group_title: str
    summary: str
    sites: tuple[str, ...]
    src: str | None
    dst: str | None
    medium: str | None
    agent: str | None
    probe_type: str | None
    workload: str | None
    value: float | None
    baseline: float | None
    unit: str | None
    since: datetime
    opened_at: datetime
    last_seen_at: datetime
    updated_at: datetime
    closed_at: datetime | None = None
    close_reason: str | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether it still is so."""
        return self.closed_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Nothing is sent of the alarms that every given field matches, until `until`. Alarms are kept and shown all the same."""

    id: str
    until: datetime
    created_at: datetime
    created_by: str
    reason: str
    alarm: str | None = None
    kind: str | None = None
    site: str | None = None
    agent: str | None = None

    def covers(self, alarm: Alarm, now: datetime) -> bool:
        """Whether it holds its tongue about this alarm now."""
        return (
            now < self.until
            and self.alarm in {None, alarm.id}
            and self.kind in {None, alarm.kind}
            and (self.site is None or self.site in alarm.sites)
            and self.agent in {None, alarm.agent}
        )


def new_id(key: str, opened_at: datetime) -> str:
    """Twelve hexadecimal digits: the same alarm opened by two evaluators at the same moment is one."""
    return sha256(f"{key}\0{opened_at.isoformat()}".encode()).hexdigest()[:12]


def alarm_json(alarm: Alarm, *, is_silenced: bool | None = None) -> dict[str, Any]:
    """An alarm as `isochrone alarms --json` gives it."""
    document: dict[str, Any] = {each.name: getattr(alarm, each.name) for each in fields(alarm)}
    document["state"] = "open" if alarm.is_open else "closed"
    document["sites"] = list(alarm.sites)
    document["detail"] = json.loads(json.dumps(dict(alarm.detail)))
    if is_silenced is not None:
        document["silenced"] = is_silenced
    return document
