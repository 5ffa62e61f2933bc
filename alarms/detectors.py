"""All detectors of one warehouse, and what they find, as conditions. Pure: rows and time are arguments.

A link, target or route that is not measured any more (taken out of the configuration, its site given up) stays as it was last found to be
for `FORGET`; then its detector goes, and an alarm of it is over. When it was measured last is kept with the alarm, for a restart.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from sys import intern
from typing import Any, Protocol

from alarms.flips import Choice, Flip, FlipSeries
from alarms.missing import Missing, MissingWatch, Report
from alarms.model import Alarm, Condition, Severity
from alarms.paths import PathChange, PathSeries, first_difference
from alarms.settings import Settings
from alarms.shift import Level, LossSeries, RttSeries

__all__ = ["Detectors"]

Link = tuple[str, str, str]
Trace = tuple[str, str, str, str, str]
_LOST = 0.99
_HALF_LOST = 0.5
#: What nothing was measured of for so long is not measured any more.
FORGET = timedelta(days=1)
#: An evaluator that runs says at least so often of an alarm that it still is so (see alarms.life).
_SAID = timedelta(minutes=10)


class _Fed(Protocol):
    measured_at: datetime | None


class Detectors:
    """Feed it in the order of time; ask it for `conditions` and, once, for what `ended`."""

    def __init__(self, settings: Settings, listening_since: datetime) -> None:
        self._settings = settings
        self._kinds = set(settings.evaluate.kinds)
        self._listening_since = listening_since
        self._bucket_at: datetime | None = None
        self._rtt: dict[Link, RttSeries] = {}
        self._loss: dict[Link, LossSeries] = {}
        self._paths: dict[Trace, PathSeries] = {}
        self._flips: dict[tuple[str, str], FlipSeries] = {}
        self._missing = MissingWatch(settings.missing, listening_since)
        self._was_missing: dict[str, Missing] = {}
        self._ended: dict[str, str] = {}
        #: Shifts and changes of paths that began, by kind: those that have ended since too.
        self.begun: Counter[str] = Counter()

    # -- what is measured -------------------------------------------------------------------------------------------

    def bucket(self, link: Link, at: datetime, rtt_ms: float | None, sent: int, lost: int, *, is_past: bool = False) -> None:
        """One time bucket of a link; is_past: it is learnt from, and not judged."""
        rtt, loss = self._rtt.get(link), self._loss.get(link)
        if rtt is None or loss is None:
            src, dst, medium = link
            link = intern(src), intern(dst), intern(medium)  # kept: else each link has its own copy of its names
            rtt = self._rtt.setdefault(link, RttSeries(self._settings.shift))
            loss = self._loss.setdefault(link, LossSeries(self._settings.shift))
        # One time for all links of a bucket: of every link there may be hundreds of thousands.
        if at != self._bucket_at:
            self._bucket_at = at
        if rtt.measured_at is None or loss.measured_at is None or at > rtt.measured_at:
            rtt.measured_at = loss.measured_at = self._bucket_at
        # What lies before a shift that is on (of a past that is judged again) neither ends it nor is part of it.
        is_rtt_on, is_loss_on = rtt.level is not None, loss.level is not None
        if rtt.level is not None and at < rtt.level.since:
            rtt.learn(rtt_ms)
        elif not is_past:
            rtt.observe(at, rtt_ms)
            self.begun["rtt_shift"] += rtt.level is not None and not is_rtt_on
        elif not is_rtt_on:
            rtt.learn(rtt_ms)
        if loss.level is not None and at < loss.level.since:
            loss.learn(sent, lost)
        elif not is_past:
            loss.observe(at, sent, lost)
            self.begun["loss_shift"] += loss.level is not None and not is_loss_on
        elif not is_loss_on:
            loss.learn(sent, lost)

    def trace(self, target: Trace, path: Sequence[str | None], at: datetime, *, flow: int, learnt: int = 0) -> None:
        """One trace that reached its target; learnt: a path of the past instead, taken so many times."""
        series = self._paths.get(target)
        if series is None:
            series = self._paths[target] = PathSeries(self._settings.paths)
        series.measured_at = at if series.measured_at is None else max(at, series.measured_at)
        is_on = series.change is not None
        if learnt:
            if series.change is None or at < series.change.since:
                series.learn(path, at, flow=flow, times=learnt)
        elif series.change is None or at >= series.change.since:
            series.observe(path, at, flow=flow)
            self.begun["path_change"] += series.change is not None and not is_on

    def report(self, report: Report) -> None:
        """What an agent says of itself."""
        self._missing.observe(report)

    def routes(self, source: str, workload: str, routes: Sequence[Choice], at: datetime) -> None:
        """The routes of now, the best first."""
        key = (source, workload)
        if key not in self._flips:
            self._flips[key] = FlipSeries(self._settings.flips)
        if routes or self._flips[key].measured_at is None:
            self._flips[key].measured_at = at
        self._flips[key].observe(routes, at)

    def clock_was_set(self, by: timedelta, now: datetime) -> None:
        """The collector's clock was set by so much (0: nobody knows by how much, but back), and is `now`."""
        self._missing.clock_was_set(by, now)
        # What is measured is dated by others' clocks: it only must not seem to be long ago for this one's going ahead.
        moved: dict[datetime, datetime] = {}
        for one in (each for table in self._tables() for each in table.values()):
            if one.measured_at is not None:
                at = one.measured_at
                one.measured_at = moved.setdefault(at, min(at + max(by, timedelta(0)), now))

    def degraded(self) -> set[str]:
        """Agents that do not trust what they measure."""
        return self._missing.degraded()

    @property
    def link_count(self) -> int:
        """How many links are watched."""
        return len(self._rtt)

    def degrees(self) -> Counter[str]:
        """How many links are watched at each site."""
        return Counter(site for src, dst, _ in self._rtt for site in {src, dst})

    # -- what is found ----------------------------------------------------------------------------------------------

    def conditions(self, now: datetime, revoked: Collection[str] = ()) -> list[Condition]:
        """What is so now."""
        self._forget(now)
        found = [
            *(_noted(_rtt(link, one.level), one) for link, one in self._rtt.items() if one.level is not None),
            *(_noted(_loss(link, one.level), one) for link, one in self._loss.items() if one.level is not None),
            *(_noted(_path(target, one.change), one) for target, one in self._paths.items() if one.change is not None),
            *(_noted(_flip(key, one.flip), one) for key, one in self._flips.items() if one.flip is not None),
        ]
        missing = {condition.key: (condition, one) for one in self._missing.missing(now, revoked) for condition in (_missing(one, now),)}
        for key, one in self._was_missing.items():
            if key not in missing:
                is_known = one.agent in self._missing.sites()
                self._ended[key] = "revoked" if one.agent in revoked else "recovered" if is_known else "not seen any more"
        self._was_missing = {key: one for key, (_, one) in missing.items()}
        found += [condition for condition, _ in missing.values()]
        return [condition for condition in found if condition.kind in self._kinds]

    def _forget(self, now: datetime) -> None:
        """Let go of what is not measured any more. It is said to have ended also where it was well: that closes nothing."""
        key_of: tuple[Callable[[Any], str], ...] = (
            partial(_link_key, "rtt_shift"),
            partial(_link_key, "loss_shift"),
            _trace_key,
            _flip_key,
        )
        for name, table in zip(key_of, self._tables(), strict=True):
            old = [key for key, one in table.items() if one.measured_at is not None and now - one.measured_at >= FORGET]
            for key in old:
                self._ended[name(key)] = table.pop(key).ended or "not measured any more"

    def _tables(self) -> tuple[dict[Any, Any], ...]:
        return self._rtt, self._loss, self._paths, self._flips

    def ended(self) -> dict[str, str]:
        """Why conditions are over, by key, since the last call."""
        found, self._ended = self._ended, {}
        for kind, table in (("rtt_shift", self._rtt), ("loss_shift", self._loss)):
            for link, one in table.items():
                if one.ended is not None:
                    found[_link_key(kind, link)] = one.ended
                    one.ended = None
        for target, series in self._paths.items():
            if series.ended is not None:
                found[_trace_key(target)] = series.ended
                series.ended = None
        for key, flip in self._flips.items():
            if flip.ended is not None:
                found[_flip_key(key)] = flip.ended
                flip.ended = None
        return found

    def adopt(self, alarms: Iterable[Alarm]) -> None:
        """Go on with alarms that are open and that these detectors have not found themselves: after a restart, or another's."""
        for alarm in alarms:
            # A row that cannot be read, of another version perhaps, is left to itself: nobody sees it, and it closes in a day.
            with contextlib.suppress(KeyError, TypeError, ValueError):
                self._adopt(alarm)

    def _adopt(self, alarm: Alarm) -> None:
        detail = alarm.detail
        if alarm.kind in {"rtt_shift", "loss_shift"}:
            link = (str(alarm.src), str(alarm.dst), str(alarm.medium))
            if alarm.kind == "rtt_shift":
                level = Level.of(detail["level"])
                rtt = self._rtt.setdefault(link, RttSeries(self._settings.shift))
                rtt.level = rtt.level or level
                self._heard(rtt, alarm)
            else:
                level = Level.of(detail["level"])
                loss = self._loss.setdefault(link, LossSeries(self._settings.shift))
                loss.level = loss.level or level
                self._heard(loss, alarm)
        elif alarm.kind == "path_change":
            target: Trace = (str(alarm.src), str(alarm.dst), str(alarm.medium), detail["protocol"], detail["target"])
            series = self._paths.setdefault(target, PathSeries(self._settings.paths))
            if series.change is None:
                series.change = PathChange(tuple(detail["old"]), tuple(detail["new"]), detail["flow"], alarm.since)
                series.learn(detail["old"], alarm.since, flow=detail["flow"], times=self._settings.paths.learn)
            self._heard(series, alarm)
        elif alarm.kind == "route_flip":
            key = (str(alarm.src), str(alarm.workload))
            if key not in self._flips or self._flips[key].flip is None:
                old, new = (Choice(tuple(each["sites"]), each["pool"], each["value_ms"]) for each in (detail["old"], detail["new"]))
                self._flips[key] = FlipSeries(self._settings.flips, Flip(old, new, alarm.value, alarm.since))
            self._heard(self._flips[key], alarm)
        elif alarm.key not in self._was_missing:
            allowed = timedelta(seconds=detail["allowed_s"])
            one = Missing(
                agent=str(alarm.agent),
                site=alarm.sites[0],
                probe_type=str(alarm.probe_type),
                since=alarm.since,
                allowed=allowed,
                is_agent_silent=bool(detail["agent_silent"]),
            )
            self._missing.restore(one.agent, one.site, one.probe_type, one.since, allowed, was_silent=one.is_agent_silent)
            self._was_missing[alarm.key] = one

    def _heard(self, one: _Fed, alarm: Alarm) -> None:
        """When what an alarm is about was measured last, if nothing newer is known. The time in which nobody listened does not count."""
        kept = alarm.detail.get("measured_at")
        at = alarm.last_seen_at if kept is None else datetime.fromisoformat(kept)
        if self._listening_since - alarm.last_seen_at > _SAID:
            at += self._listening_since - alarm.last_seen_at
        one.measured_at = at if one.measured_at is None else max(at, one.measured_at)


def _noted(condition: Condition, one: _Fed) -> Condition:
    at = one.measured_at
    return condition if at is None else replace(condition, detail={**condition.detail, "measured_at": at.isoformat()})


# -- conditions in words ------------------------------------------------------------------------------------------------


def _link_key(kind: str, link: Link) -> str:
    src, dst, medium = link
    return f"{kind}:{src}>{dst}:{medium}"


def _trace_key(target: Trace) -> str:
    src, dst, medium, protocol, address = target
    return f"path_change:{src}>{dst}:{medium}:{protocol}:{address}"


def _flip_key(key: tuple[str, str]) -> str:
    return f"route_flip:{key[0]}:{key[1]}"


def _of_link(link: Link) -> dict[str, Any]:
    src, dst, medium = link
    return {"src": src, "dst": dst, "medium": medium, "sites": (src, dst)}


def _named(link: Link | Trace) -> str:
    return f"{link[0]} → {link[1]}" + ("" if link[2] == "internet" else f" ({link[2]})")


def _rtt(link: Link, level: Level) -> Condition:
    is_worse = level.value >= level.baseline
    severity: Severity = "info" if not is_worse else "critical" if level.value - level.baseline >= max(50.0, level.baseline) else "warning"
    word = "rose" if is_worse else "fell"
    return Condition(
        key=_link_key("rtt_shift", link),
        kind="rtt_shift",
        severity=severity,
        summary=f"{_named(link)}: RTT {word} from {level.baseline:.1f} to {level.value:.1f} ms{_again(level)}",
        since=level.since,
        value=level.value,
        baseline=level.baseline,
        unit="ms",
        detail={"level": level.kept()},
        **_of_link(link),
    )


def _again(level: Level) -> str:
    return "" if level.times == 1 else f"; it comes and goes, {level.times} times so far"


def _loss(link: Link, level: Level) -> Condition:
    is_down = level.value >= _LOST
    return Condition(
        key=_link_key("loss_shift", link),
        kind="loss_shift",
        severity="critical" if level.value >= _HALF_LOST else "warning",
        summary=(
            f"{_named(link)}: no answer"
            if is_down
            else f"{_named(link)}: loss rose from {level.baseline * 100:.1f} to {level.value * 100:.1f} %"
        )
        + _again(level),
        since=level.since,
        value=level.value,
        baseline=level.baseline,
        unit="ratio",
        detail={"level": level.kept()},
        **_of_link(link),
    )


def _path(target: Trace, change: PathChange) -> Condition:
    ttl = first_difference(change.old, change.new)
    before, after = (way[ttl - 1] if ttl <= len(way) else None for way in (change.old, change.new))
    src, dst, medium, protocol, address = target
    return Condition(
        key=_trace_key(target),
        kind="path_change",
        severity="warning",
        summary=f"{_named(target)}: the path changed at hop {ttl}, from {before or '*'} to {after or '*'}",
        since=change.since,
        detail={
            "protocol": protocol,
            "target": address,
            "flow": change.flow,
            "changed_ttl": ttl,
            "old": list(change.old),
            "new": list(change.new),
        },
        **_of_link((src, dst, medium)),
    )


def _flip(key: tuple[str, str], flip: Flip) -> Condition:
    source, workload = key
    worth = "the old one is not among the routes any more" if flip.worth_ms is None else f"staying would cost {flip.worth_ms:.1f} ms"
    return Condition(
        key=_flip_key(key),
        kind="route_flip",
        severity="warning",
        summary=f"{source}, {workload}: the best route is now {flip.new.name}, was {flip.old.name}; {worth}",
        sites=tuple(dict.fromkeys((*flip.old.sites, *flip.new.sites))),
        src=source,
        workload=workload,
        since=flip.since,
        value=flip.worth_ms,
        unit="ms",
        detail={name: _choice(each) for name, each in (("old", flip.old), ("new", flip.new))},
    )


def _choice(choice: Choice) -> Mapping[str, Any]:
    return {"sites": list(choice.sites), "pool": choice.pool, "value_ms": choice.value_ms}


def _missing(one: Missing, now: datetime) -> Condition:
    what = "nothing at all" if one.is_agent_silent else f"no {one.probe_type}"
    return Condition(
        key=f"data_missing:{one.agent}:{one.probe_type}",
        kind="data_missing",
        severity="critical" if one.is_agent_silent else "warning",
        summary=f"{one.agent}: {what} since {one.since:%Y-%m-%d %H:%M:%S} UTC ({one.probe_type} is due within {_span(one.allowed)})",
        sites=(one.site,),
        agent=one.agent,
        probe_type=one.probe_type,
        since=one.since,
        value=(now - one.since).total_seconds(),
        baseline=one.allowed.total_seconds(),
        unit="s",
        detail={"allowed_s": one.allowed.total_seconds(), "agent_silent": one.is_agent_silent},
    )


def _span(span: timedelta) -> str:
    seconds = span.total_seconds()
    return f"{seconds / 3600:g} h" if seconds >= 7200 else f"{seconds / 60:g} min" if seconds >= 120 else f"{seconds:g} s"
