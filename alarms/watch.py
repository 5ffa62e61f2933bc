"""Judge a warehouse's alarms, once or on a schedule beside its collector.

An evaluation reads what came since the last one: the links' newest time buckets, the agents' reports, the traces; never more than that,
so that its cost is that of a minute, whatever is kept. What the detectors need of the past is read once, at the first evaluation. Alarms
live in the warehouse, not here: they are read, judged and written in one transaction, which is only made when something changes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from alarms.courier import Courier
from alarms.detectors import Detectors
from alarms.flips import Choice
from alarms.groups import grouped
from alarms.keep import alarm_of, alarm_row, notice_row, silence_of, told_of
from alarms.life import merged
from alarms.missing import Report
from alarms.model import KINDS, Alarm, Condition, Silence
from alarms.notices import Draft, Told, drafts, unresolved
from alarms.settings import Settings
from records.errors import IsochroneError
from warehouse import Warehouse, alarms

__all__ = ["Evaluation", "RoutesOf", "Watch", "Watcher"]

log = logging.getLogger("isochrone.alarms")

#: (source, workload) -> the routes of now, the best first.
RoutesOf = Callable[[], Mapping[tuple[str, str], Sequence[Choice]]]

#: What was measured so long before a pass over the roll-ups may have come after it.
_UNROLLED = timedelta(minutes=3)
#: Paths and agents of this long ago are still known at the start.
_KNOWN = timedelta(days=1)
#: After a pause (a collector that was stopped by its machine) no more than this is caught up with.
_CATCH_UP = timedelta(hours=2)
_LATE = timedelta(minutes=5)
_TOLD = timedelta(days=30)
_CLOSED = timedelta(days=1)
#: A clock that was set by less matters to nothing here, and a busy host may take as long to read two clocks.
_CLOCK_SET_S = 10.0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation came to.

    opened, closed   alarms
    held             notices that wait for their hour
    begun            shifts and changes of paths that began in what was judged, by kind, those that are over by now too
    """

    at: datetime
    open: tuple[Alarm, ...]
    opened: tuple[Alarm, ...]
    closed: tuple[Alarm, ...]
    notices: tuple[Draft, ...]
    held: int
    seconds: float
    link_count: int
    begun: Mapping[str, int]


@dataclass(slots=True)
class Watch:
    """The detectors of one warehouse and how far they have read.

    revoked   agents that are not to be missed any more
    replay    how much of the past the first evaluation judges; else it is only learnt from
    is_dry    change nothing in the warehouse
    """

    warehouse: Warehouse
    settings: Settings
    listening_since: datetime
    revoked: Callable[[], Collection[str]] = frozenset
    replay: timedelta = timedelta(0)
    is_dry: bool = False
    _detectors: Detectors = field(init=False)
    _until: datetime | None = None
    _received: datetime | None = None
    _seen: set[str] = field(default_factory=set)
    #: Until when each site's links are judged.
    _sites: dict[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._detectors = Detectors(self.settings, self.listening_since)

    def clock_was_set(self, by: timedelta, now: datetime) -> None:
        """The collector's clock was set since the last step, forward by `by` (back, if less than 0), and is `now`.

        A step forward needs no reading anew: what came before it and what came after both lie between the last step and this one.
        """
        self._detectors.clock_was_set(by, now)
        if by < timedelta(0) and self._received is not None:
            self._go_on_from(self._received + by)

    def _go_on_from(self, received: datetime) -> None:
        """After the clock was set back: from here on, and each site's links from where they are judged until."""
        assert self._until is not None
        self._received, self._until = received, min([self._until, self._floor(received), *self._sites.values()])

    def step(self, now: datetime, routes: Mapping[tuple[str, str], Sequence[Choice]] | None = None) -> Evaluation:
        """Judge what came until `now`; routes: the best ones, where they were looked at again."""
        began = time.perf_counter()
        with alarms.reading(self.warehouse) as cursor:
            known = self._alarms(cursor, now)
            self._detectors.adopt(alarm for alarm in known if alarm.is_open and alarm.id not in self._seen)
            if self._until is None:
                self._learn(cursor, now)
                for back in range(self.replay // _CATCH_UP, 0, -1):  # a long past as if it had been judged all the time
                    self._read(cursor, now - back * _CATCH_UP)
            elif self._received is not None and self._arrived(now) < self._received:
                # The clock is behind what was read already: nothing would be read until it has caught up.
                self._detectors.clock_was_set(timedelta(0), now)
                self._go_on_from(self._arrived(now))
            self._read(cursor, now)
        begun, self._detectors.begun = dict(+self._detectors.begun), Counter()
        for (source, workload), found in (routes or {}).items():
            self._detectors.routes(source, workload, found, now)
        conditions = self._detectors.conditions(self._received or now, self.revoked())
        ended = self._detectors.ended()
        with alarms.reading(self.warehouse) as cursor:
            plan = self._plan(cursor, known, conditions, ended, now)
        if plan.is_change and not self.is_dry:
            with alarms.changing(self.warehouse) as cursor:
                # Read again: another evaluator, or a command, may have changed them meanwhile.
                plan = self._plan(cursor, self._alarms(cursor, now), conditions, ended, now)
                alarms.put_alarms(cursor, [alarm_row(alarm) for alarm in plan.changed])
                alarms.put_notices(cursor, [notice_row(draft, now) for draft in plan.notices])
        self._seen = {alarm.id for alarm in plan.open}
        return Evaluation(
            at=now,
            open=plan.open,
            opened=plan.opened,
            closed=plan.closed,
            notices=tuple(plan.notices),
            held=plan.held,
            seconds=time.perf_counter() - began,
            link_count=self._detectors.link_count,
            begun=begun,
        )

    # -- reading ----------------------------------------------------------------------------------------------------

    def _learn(self, cursor: alarms.Cursor, now: datetime) -> None:
        rules, width = self.settings.shift, self.settings.evaluate.bucket
        until = self._whole(now) - _whole_buckets(self.replay, width)
        since = until - rules.window * width
        rolled = alarms.rolled_at(cursor) if self.settings.evaluate.bucket_s == 60 else None
        raw = since if rolled is None else min(until, max(since, self._floor(rolled - _UNROLLED)))
        if raw > since:
            self._learn_from(alarms.history(cursor, since=since, until=raw), since, width)
        self._learn_from(alarms.buckets(cursor, since=raw, until=until, width=width), raw, width)
        received = self._arrived(now) - self.replay
        for row in alarms.known_paths(cursor, since=received - _KNOWN, until=received):
            target = (row["src"], row["dst"], row["medium"], row["protocol"], row["target"])
            self._detectors.trace(target, row["addresses"], row["started_at"], flow=row["flow"], learnt=row["times"])
        for row in alarms.reports(cursor, since=received - _KNOWN, until=received, width=_KNOWN):
            self._detectors.report(_report(row))
        self._until, self._received = until, received

    def _read(self, cursor: alarms.Cursor, now: datetime) -> None:
        assert self._until is not None
        assert self._received is not None
        width = self.settings.evaluate.bucket
        received, arrived = max(self._received, now - _CATCH_UP), self._arrived(now)
        for row in alarms.reports(cursor, since=received, until=arrived, width=max(width, timedelta(seconds=1))):
            self._detectors.report(_report(row))
        for row in alarms.traces(cursor, since=received, until=arrived):
            target = (row["src"], row["dst"], row["medium"], row["protocol"], row["target"])
            self._detectors.trace(target, row["addresses"], row["started_at"], flow=row["flow"])
        self._received = max(arrived, received)
        until = self._whole(now)
        # From where the slowest site is, if that is not too long ago; else from where the last look ended.
        first = min([self._until, *(at for at in self._sites.values() if until - at <= self._late)])
        since = max(first, until - _whole_buckets(_CATCH_UP, width))
        if until > since:
            self._judge(alarms.buckets(cursor, since=since, until=until, width=width, degraded=self._detectors.degraded()), since, until)
            self._until = until

    def _learn_from(self, table: Any, since: datetime, width: timedelta) -> None:
        columns = [table[name].to_pylist() for name in ("src", "dst", "medium", "slot", "rtt_p50_ms", "sent_count", "lost_count")]
        bucket = self._detectors.bucket
        for src, dst, medium, slot, rtt_ms, sent, lost in zip(*columns, strict=True):
            bucket((src, dst, medium), since + slot * width, rtt_ms, sent, lost, is_past=True)

    def _judge(self, table: Any, since: datetime, until: datetime) -> None:
        """Judge each site's buckets, once, as far as they are whole: what comes late is judged late.

        An agent sends in the order it measures. Where a site's newest bucket is the last one there can be, it is on time, and that bucket
        is whole; else what comes next may still belong to its newest bucket, which is left until something newer is there.
        """
        width = self.settings.evaluate.bucket
        columns = [table[name].to_pylist() for name in ("src", "dst", "medium", "slot", "rtt_p50_ms", "sent_count", "lost_count")]
        newest: dict[str, int] = {}
        for src, slot in zip(columns[0], columns[3], strict=True):
            newest[src] = max(slot, newest.get(src, 0))
        ends = {src: since + (slot + (since + (slot + 1) * width >= until)) * width for src, slot in newest.items()}
        for src, dst, medium, slot, rtt_ms, sent, lost in zip(*columns, strict=True):
            at = since + slot * width
            if self._sites.get(src, since) <= at < ends[src]:
                self._detectors.bucket((src, dst, medium), at, rtt_ms, sent, lost)
        self._sites |= {src: max(end, self._sites.get(src, end)) for src, end in ends.items()}

    @property
    def _late(self) -> timedelta:
        """How late what is measured may come to be judged."""
        return max(_LATE, 20 * self.settings.evaluate.bucket)

    def _arrived(self, now: datetime) -> datetime:
        """Until when everything that came is there: what is being committed has its time of arrival already."""
        return now - timedelta(seconds=self.settings.evaluate.lag_s)

    def _whole(self, now: datetime) -> datetime:
        """Until when time buckets are whole."""
        return self._floor(self._arrived(now))

    def _floor(self, at: datetime) -> datetime:
        width_s = self.settings.evaluate.bucket_s
        return datetime.fromtimestamp(at.timestamp() // width_s * width_s, UTC)

    def _alarms(self, cursor: alarms.Cursor, now: datetime) -> list[Alarm]:
        return [alarm_of(row) for row in alarms.alarm_rows(cursor, closed_since=now - _CLOSED)]

    # -- judging ----------------------------------------------------------------------------------------------------

    def _plan(
        self,
        cursor: alarms.Cursor,
        known: Sequence[Alarm],
        conditions: Sequence[Condition],
        ended: Mapping[str, str],
        now: datetime,
    ) -> _Plan:
        live = [alarm for alarm in known if alarm.is_open]
        over = [alarm for alarm in known if not alarm.is_open]
        silences: list[Silence] = []
        told: dict[tuple[str, str], Told] = {}
        recent: dict[str, int] = {}
        if self.settings.webhooks:
            silences = [silence_of(row) for row in alarms.silence_rows(cursor, now=now)]
            told, recent = told_of(alarms.last_notices(cursor, since=now - _TOLD, hour=now - timedelta(hours=1)))
            # What closed long ago and is not told yet: it was silenced, or others went before.
            untold = unresolved(told) - {alarm.id for alarm in known}
            if untold:
                over += [alarm_of(row) for row in alarms.alarm_rows_of(cursor, untold)]
        after = merged(live, conditions, ended, now=now)
        settled = {group for (_, group), last in told.items() if last.status == "firing"}
        wait = timedelta(seconds=self.settings.notify.group_wait_s)
        settled |= {alarm.group_key for alarm in live if now - alarm.opened_at > wait}
        still = grouped([alarm for alarm in after if alarm.is_open], told=settled, degrees=self._detectors.degrees())
        closed = [alarm for alarm in after if not alarm.is_open]
        before = {alarm.id: alarm for alarm in live}
        made, held = drafts([*still, *closed, *over], silences, told, recent, self.settings, now)
        return _Plan(
            open=tuple(still),
            opened=tuple(alarm for alarm in still if alarm.id not in before),
            closed=tuple(closed),
            changed=[alarm for alarm in (*still, *closed) if before.get(alarm.id) != alarm],
            notices=made,
            held=held,
        )


@dataclass(frozen=True, slots=True)
class _Plan:
    open: tuple[Alarm, ...]
    opened: tuple[Alarm, ...]
    closed: tuple[Alarm, ...]
    changed: list[Alarm]
    notices: list[Draft]
    held: int

    @property
    def is_change(self) -> bool:
        return bool(self.changed or self.notices)


def _report(row: Mapping[str, Any]) -> Report:
    schedule = row["schedule"]
    return Report(
        agent=row["agent"],
        site=row["site"],
        boot=row["boot"],
        at=row["received_at"],
        uptime=timedelta(microseconds=row["uptime_ns"] // 1000),
        produced=dict(row["produced"]),
        schedule=None if schedule is None else {name: timedelta(microseconds=ns // 1000) for name, ns in schedule},
        is_degraded=row["grade"] == "degraded",
    )


def _whole_buckets(span: timedelta, width: timedelta) -> timedelta:
    return span // width * width


class Watcher:
    """Watches beside a collector, in threads of its own: one judges, one sends. A fault of either is logged, and the next turn comes.

    routes_of   the best routes of those that are watched; it may take its time, and is asked after the links are judged
    clock       what time it is; it may be set
    """

    def __init__(
        self,
        warehouse: Warehouse,
        settings: Settings,
        *,
        revoked: Callable[[], Collection[str]] = frozenset,
        routes_of: RoutesOf | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings, self._routes_of, self._clock = settings, routes_of, clock
        self._watch = Watch(warehouse, settings, clock(), revoked=revoked)
        self._courier = Courier(warehouse, settings.webhooks, clock=clock)
        self._wall_ahead_s = self._wall_ahead_of_monotonic_s()
        self._stopping, self._to_send = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=self._judge, name="alarms", daemon=True),
            threading.Thread(target=self._send, name="alarms-courier", daemon=True),
        ]
        self._last: Evaluation | None = None
        self._opened: Counter[str] = Counter()
        self._failures = 0
        self._looks: Counter[str] = Counter()

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; what is not sent stays in the warehouse."""
        self._stopping.set()
        self._to_send.set()
        longest_s = max([15.0, *(webhook.timeout_s + 5 for webhook in self._settings.webhooks)])
        for thread in self._threads:
            thread.join(timeout=longest_s)

    def values(self) -> dict[str, Any]:
        """For /metrics, by metric name."""
        found: dict[str, Any] = {
            "isochrone_alarms_opened": dict(self._opened),
            "isochrone_alarm_notices": dict(self._courier.outcomes),
            "isochrone_alarm_notices_waiting": self._courier.waiting,
            "isochrone_alarm_evaluation_failures": self._failures,
            "isochrone_alarm_route_looks": dict(self._looks),
        }
        last = self._last
        if last is not None:
            states: Counter[tuple[str, str]] = Counter({(kind, state): 0 for kind in KINDS for state in ("open", "acknowledged")})
            states.update((alarm.kind, "open" if alarm.acknowledged_at is None else "acknowledged") for alarm in last.open)
            found["isochrone_alarms"] = dict(states)
            found["isochrone_alarm_notices_held"] = last.held
            found["isochrone_alarm_evaluation_seconds"] = last.seconds
            found["isochrone_alarm_evaluation_timestamp_seconds"] = last.at.timestamp()
        return found

    def _judge(self) -> None:
        every_s = self._settings.evaluate.every_s
        due_s = routes_due_s = time.monotonic()
        while not self._stopping.wait(max(0.0, due_s - time.monotonic())):
            due_s = max(due_s + every_s, time.monotonic())
            self._step(None)
            if self._routes_of is not None and self._settings.watch and time.monotonic() >= routes_due_s and not self._stopping.is_set():
                routes_due_s = time.monotonic() + self._settings.flips_every_s
                routes = self._ask_routes(self._routes_of)
                if routes is not None:
                    self._step(routes)

    def _step(self, routes: Mapping[tuple[str, str], Sequence[Choice]] | None) -> None:
        every_s = self._settings.evaluate.every_s
        try:
            self._heed_clock()
            done = self._last = self._watch.step(self._clock(), routes)
        except (IsochroneError, OSError) as error:
            self._failures += 1
            log.warning("alarms cannot be judged now and are judged again in %g s: %s", every_s, error)
            return
        except Exception:
            self._failures += 1
            log.exception("alarms could not be judged")
            return
        for alarm in done.opened:
            self._opened[alarm.kind] += 1
            log.warning("alarm %s opened: %s", alarm.id, alarm.summary)
        for alarm in done.closed:
            log.info("alarm %s closed (%s): %s", alarm.id, alarm.close_reason, alarm.summary)
        if done.notices:
            self._to_send.set()

    def _wall_ahead_of_monotonic_s(self) -> float:
        """The wall clock less the monotonic one: it moves when somebody sets the clock, or the host slept (then nobody listened either).

        Not when an evaluation comes late: both clocks go on then, and who was silent meanwhile was silent.
        """
        return self._clock().timestamp() - time.monotonic()

    def _heed_clock(self) -> None:
        ahead_s = self._wall_ahead_of_monotonic_s()
        by_s = ahead_s - self._wall_ahead_s
        if abs(by_s) >= _CLOCK_SET_S:
            self._wall_ahead_s = ahead_s
            log.warning("this host's clock was set %s by %.0f s", "forward" if by_s > 0 else "back", abs(by_s))
            self._watch.clock_was_set(timedelta(seconds=by_s), self._clock())

    def _ask_routes(self, routes_of: RoutesOf) -> Mapping[tuple[str, str], Sequence[Choice]] | None:
        routes: Mapping[tuple[str, str], Sequence[Choice]] | None = None
        try:
            routes = routes_of()
        except (IsochroneError, OSError) as error:
            log.warning("the watched routes cannot be looked at now: %s", error)
        except Exception:  # whatever it is: the thread that judges must outlive it
            log.exception("the watched routes could not be looked at")
        planned = sum(bool(found) for found in (routes or {}).values())
        self._looks["planned"] += planned
        self._looks["failed"] += len(self._settings.watch) - planned
        return routes

    def _send(self) -> None:
        waiting = 1  # of an earlier life
        while not self._stopping.is_set():
            self._to_send.wait(timeout=2.0 if waiting else 60.0)
            self._to_send.clear()
            if self._stopping.is_set():
                return
            try:
                waiting = self._courier.round(self._stopping.is_set)
            except (IsochroneError, OSError) as error:
                log.warning("notices cannot be sent now: %s", error)
                waiting = 1
