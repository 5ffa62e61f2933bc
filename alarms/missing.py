"""Has an agent stopped measuring something it should? Pure: fed with the agents' own reports.

* An agent reports, every few seconds, how many measurements of each probe type it has made since boot, and how often it means to make
  them (`schedule`). A type that is not on its schedule was never configured, or is not any more: it cannot be missing.
* A type is silent since the last report that showed one more of it, or since the agent began, whichever is later. It is missing when it
  has been silent for longer than `intervals` of its schedule and for longer than `least`. No report at all silences every type.
* An agent of an older version reports no schedule: its pace is then taken from what it has made since boot.
* What was silent while nobody listened (the collector was down) is counted from when it listens again.
* All times are the collector's. Where its clock is set, what is known is set along with it (`clock_was_set`): nobody has been silent for an
  hour because it is an hour later all at once.
* A revoked agent is not missed, nor one that has been silent for longer than `forget`.
* Hysteresis: it is over when the type has been there again for `hold`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

__all__ = ["Missing", "MissingRules", "MissingWatch", "Report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingRules:
    """See the module."""

    intervals: float = 3.0
    least: timedelta = timedelta(minutes=3)
    hold: timedelta = timedelta(minutes=2)
    forget: timedelta = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What matters here of an agent's report. at: when it came. schedule None: it does not say."""

    agent: str
    site: str
    boot: str
    at: datetime
    uptime: timedelta
    produced: Mapping[str, int]
    schedule: Mapping[str, timedelta] | None
    is_degraded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A probe type of an agent without measurements since `since`; is_agent_silent: nothing at all comes from the agent."""

    agent: str
    site: str
    probe_type: str
    since: datetime
    allowed: timedelta
    is_agent_silent: bool


@dataclass(slots=True)
class _Type:
    """boot: the process that `made` counts in; None: not known since a restart of ours."""

    boot: str | None
    made: int
    last: datetime
    is_missing: bool = False
    back_since: datetime | None = None


@dataclass(slots=True)
class _Agent:
    """was_silent: nothing at all came of it before a restart of ours, and nothing has since."""

    report: Report
    was_silent: bool = False
    types: dict[str, _Type] = field(default_factory=dict)


class MissingWatch:
    """All agents. listening_since: from when on silence counts."""

    def __init__(self, rules: MissingRules, listening_since: datetime) -> None:
        self._rules, self._listening_since = rules, listening_since
        self._agents: dict[str, _Agent] = {}

    def restore(self, agent: str, site: str, probe_type: str, since: datetime, allowed: timedelta, *, was_silent: bool) -> None:
        """An alarm that was open before a restart."""
        known = self._agents.get(agent)
        if known is None:
            schedule = {probe_type: allowed / self._rules.intervals}
            report = Report(agent=agent, site=site, boot="", at=since, uptime=timedelta(0), produced={}, schedule=schedule)
            known = self._agents[agent] = _Agent(report)
        elif not known.report.boot and known.report.schedule is not None:
            schedule = {**known.report.schedule, probe_type: allowed / self._rules.intervals}
            known.report = replace(known.report, at=max(since, known.report.at), schedule=schedule)
        known.types[probe_type] = _Type(None, 0, since, is_missing=True)
        known.was_silent = was_silent and not known.report.boot

    def observe(self, report: Report) -> None:
        """One more report, in the order of their times for each agent."""
        known = self._agents.setdefault(report.agent, _Agent(report))
        # Of one process its own time tells the order, also where the collector's clock was set between two reports.
        is_same = report.boot == known.report.boot
        if report.uptime < known.report.uptime if is_same else report.at < known.report.at:
            return  # it says nothing about now
        known.report, known.was_silent = replace(report, at=max(report.at, known.report.at)), False
        for name in {*report.produced, *(report.schedule or {})}:
            made = report.produced.get(name, 0)
            one = known.types.get(name)
            if one is None:
                known.types[name] = _Type(report.boot, made, report.at)
                continue
            if one.boot is None:
                pass
            elif made > (one.made if one.boot == report.boot else 0):
                one.last = max(one.last, report.at)
            elif one.boot != report.boot and not one.is_missing:
                # A new process has had its time from its start on; what was missing before stays so until a measurement comes.
                one.last = max(one.last, report.at - report.uptime)
            one.boot, one.made = report.boot, made

    def clock_was_set(self, by: timedelta, now: datetime) -> None:
        """The collector's clock was set by so much, and is `now`: what was seen is as long ago as before, and nothing is to come."""
        self._listening_since = min(self._listening_since + by, now)
        for known in self._agents.values():
            known.report = replace(known.report, at=min(known.report.at + by, now))
            for one in known.types.values():
                one.last = min(one.last + by, now)
                one.back_since = None if one.back_since is None else min(one.back_since + by, now)

    def degraded(self) -> set[str]:
        """Agents that do not trust what they measure, by their newest report."""
        return {name for name, known in self._agents.items() if known.report.is_degraded}

    def sites(self) -> dict[str, str]:
        """The site of each agent."""
        return {name: known.report.site for name, known in self._agents.items()}

    def missing(self, now: datetime, revoked: Collection[str] = ()) -> list[Missing]:
        """What is missing now."""
        found = []
        for name, known in sorted(self._agents.items()):  # a copy: some are forgotten
            if name in revoked or now - known.report.at > self._rules.forget:
                del self._agents[name]
                continue
            is_silent = known.was_silent or now - max(known.report.at, self._listening_since) > self._rules.least
            for kind, one in sorted(known.types.items()):
                interval = self._interval(known.report, kind)
                if interval is None:
                    one.is_missing = False
                    continue
                allowed = max(self._rules.least, self._rules.intervals * interval)
                self._judge(one, now, allowed)
                if one.is_missing:
                    found.append(
                        Missing(
                            agent=name,
                            site=known.report.site,
                            probe_type=kind,
                            since=one.last,
                            allowed=allowed,
                            is_agent_silent=is_silent,
                        )
                    )
        return found

    def _judge(self, one: _Type, now: datetime, allowed: timedelta) -> None:
        if now - max(one.last, self._listening_since) > allowed:
            one.is_missing, one.back_since = True, None
        elif one.is_missing and one.last > self._listening_since:
            if one.back_since is None:
                one.back_since = one.last
            if now - one.back_since >= self._rules.hold:
                one.is_missing, one.back_since = False, None

    def _interval(self, report: Report, kind: str) -> timedelta | None:
        """How often it means to measure that; None: it does not."""
        if report.schedule is not None:
            return report.schedule.get(kind)
        made = report.produced.get(kind, 0)
        return report.uptime / made if made else None
