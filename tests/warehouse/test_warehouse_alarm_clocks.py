"""Alarms while the collector's clock is set: nothing is called wrong for it, and what is wrong is found all the same."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from warehouse_builders import BOOT, NOW, batch, ping, report

from alarms.notices import Told, drafts
from alarms.settings import Settings, parse_settings
from alarms.watch import Evaluation, Watch, Watcher
from records.batch import Line
from warehouse import Warehouse
from warehouse.store import store

MINUTE, HOUR, MS = timedelta(minutes=1), timedelta(hours=1), 1_000_000
RULES = "[evaluate]\nlag_s = 0\n[data_missing]\nafter_s = 180\nhold_s = 60\n[shift]\nwindow = 30\nlearn = 10\nrun = 3\n"
_IDS = itertools.count(1)


def _settings(text: str = RULES) -> Settings:
    return parse_settings(text, Path("alarms.toml"))


class Site:
    """One agent at fra, whose clock is right, and a collector whose clock is ahead by `ahead`."""

    def __init__(self, wh: Warehouse) -> None:
        self.wh, self.now, self.ahead, self.made = wh, NOW, timedelta(0), 0
        self.rtt_ms, self.is_silent = 80.0, False
        self.watch = Watch(wh, _settings(), NOW)

    def minutes(self, count: int) -> Evaluation:
        """More minutes are measured and stored, as long as the agent is not silent, and judged at their end."""
        batches = []
        for _ in range(count):
            number = next(_IDS)
            rtts = [round((self.rtt_ms + number % 7 / 10) * MS)] * 5
            lines: list[Line] = [ping(number, rtts, at=self.now, agent="fra-1", src="fra", dst="sin")]
            self.now += MINUTE
            if not self.is_silent:
                self.made += 1
                said = {"produced": {"ping": self.made}, "schedule": {"ping": 60 * 10**9}, "uptime_ns": self.made * 60 * 10**9}
                lines.append(report(self.now, agent="fra-1", site="fra", boot=f"fra{BOOT}"[:16], **said))
                batches.append(batch(lines, agent="fra-1", received_at=self.now + self.ahead))
        store(self.wh, batches)
        return self.watch.step(self.now + self.ahead)

    def set_clock(self, ahead: timedelta) -> None:
        """The collector's clock is set, and the watch is told so."""
        by, self.ahead = ahead - self.ahead, ahead
        self.watch.clock_was_set(by, self.now + self.ahead)


def _found(done: Evaluation) -> list[tuple[str, str]]:
    return [(one.kind, one.severity) for one in done.open]


def test_one_evaluation_ahead_of_time_blinds_nobody(own: Warehouse) -> None:
    """Once an hour ahead, and nobody says so: what seems to be missing is over in two minutes, and a slower link is found in three."""
    site = Site(own)
    assert _found(site.minutes(15)) == []
    assert _found(site.watch.step(site.now + HOUR)) == [("data_missing", "critical")]
    assert _found(site.minutes(2)) == []
    site.rtt_ms = 120.0
    assert _found(site.minutes(3)) == [("rtt_shift", "warning")]
    site.is_silent = True
    assert _found(site.minutes(4)) == [("rtt_shift", "warning"), ("data_missing", "critical")]


def test_a_clock_that_is_set_calls_nobody_missing(own: Warehouse) -> None:
    """An hour ahead for ten minutes and back: no alarm but of the link that got slower meanwhile; then of the agent, once it is silent."""
    site = Site(own)
    site.minutes(14)
    assert _found(site.minutes(1)) == []
    site.set_clock(HOUR)
    assert _found(site.watch.step(site.now + HOUR)) == []
    site.rtt_ms = 120.0
    for _ in range(10):
        assert "data_missing" not in dict(_found(site.minutes(1)))
    site.set_clock(timedelta(0))
    assert _found(site.minutes(1)) == [("rtt_shift", "warning")]
    site.rtt_ms = 80.0
    assert _found(site.minutes(3)) == []
    site.is_silent = True
    assert _found(site.minutes(3)) == []
    assert _found(site.minutes(1)) == [("data_missing", "critical")]


def test_who_is_silent_stays_so_while_the_clock_is_set(own: Warehouse) -> None:
    """One alarm, open all the while: setting the clock to and fro neither ends it nor makes it less."""
    site = Site(own)
    site.minutes(3)
    site.is_silent = True
    (alarm,) = site.minutes(5).open
    for ahead in (HOUR, timedelta(0), -HOUR, timedelta(0)):
        site.set_clock(ahead)
        for _ in range(3):
            assert [(one.id, one.severity) for one in site.minutes(1).open] == [(alarm.id, "critical")]
    site.is_silent = False
    site.minutes(1)
    assert _found(site.minutes(1)) == []


def test_a_watcher_sees_that_its_clock_is_set(own: Warehouse) -> None:
    """Its threads and the real monotonic clock: an hour forward and back, with an agent that reported a moment ago. No alarm."""
    ahead = [timedelta(0)]

    def clock() -> datetime:
        return datetime.now(UTC) + ahead[0]

    said = {"produced": {"ping": 9}, "schedule": {"ping": 60 * 10**9}, "agent": "fra-1", "site": "fra"}
    store(own, [batch([report(clock(), **said)], agent="fra-1", received_at=clock())])
    watcher = Watcher(own, _settings("[evaluate]\nevery_s = 0.2\nlag_s = 0\n[data_missing]\nafter_s = 1800\n"), clock=clock)
    watcher.start()
    try:
        for each in (timedelta(0), HOUR, timedelta(0), HOUR):
            ahead[0] = each
            _wait_for(watcher, clock())
            values = watcher.values()
            assert (sum(values["isochrone_alarms"].values()), values["isochrone_alarm_evaluation_failures"]) == (0, 0)
    finally:
        watcher.stop()


def _wait_for(watcher: Watcher, since: datetime) -> None:
    """Wait for an evaluation after that, by the clock as it is set now."""
    deadline = time.monotonic() + 60
    while True:
        at = watcher.values().get("isochrone_alarm_evaluation_timestamp_seconds")
        if at is not None and timedelta(0) <= datetime.fromtimestamp(at, UTC) - since < HOUR / 2:
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_was_told_by_a_clock_ahead_keeps_nothing_back(own: Warehouse) -> None:
    """A group that was told as over, dated an hour ahead: it fires again now, once, and dated after that; it is repeated in its time."""
    site = Site(own)
    site.minutes(3)
    site.is_silent = True
    site.minutes(4)
    (alarm,) = site.minutes(2).open
    settings = _settings(RULES + '[[webhook]]\nname = "ops"\nurl = "http://127.0.0.1:9/"\n')
    key, later = ("ops", alarm.group_key), site.now + HOUR
    (draft,), _ = drafts([alarm], [], {key: Told("resolved", frozenset(), later)}, {}, settings, site.now)
    assert (draft.status, draft.alarm_ids) == ("firing", (alarm.id,))
    assert draft.at > later
    told = {key: Told("firing", frozenset({alarm.id}), draft.at)}
    assert drafts([alarm], [], told, {}, settings, site.now + MINUTE) == ([], 0)
    assert drafts([alarm], [], told, {}, settings, later + timedelta(hours=4, seconds=1))[0][0].status == "firing"
    # Seconds ahead is no clock that was set: it waits.
    told = {key: Told("resolved", frozenset(), site.now + timedelta(seconds=2))}
    assert drafts([alarm], [], told, {}, settings, site.now) == ([], 0)
