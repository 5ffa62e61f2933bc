"""What is not measured any more: its alarm ends, its detector goes, through restarts and whatever the collector's clock does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alarms.detectors import Detectors
from alarms.flips import Choice
from alarms.keep import alarm_of, alarm_row
from alarms.life import merged
from alarms.model import Alarm
from alarms.settings import parse_settings

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SETTINGS = parse_settings("", Path("alarms.toml"))
LINK = ("fra", "sin", "internet")
TRACE = (*LINK, "udp", "192.0.2.7")
OLD, NEW = Choice(("fra", "sin"), "sin-l4", 90.0), Choice(("fra", "nyc"), "nyc-l4", 60.0)


class Fleet:
    """Detectors, the alarms that are kept of what they find, and the time."""

    def __init__(self) -> None:
        self.now = NOW
        self.detectors = Detectors(SETTINGS, NOW)
        self.open: list[Alarm] = []
        self.reasons: list[str | None] = []

    def judged(self) -> list[str]:
        """What is open now, by kind."""
        after = merged(self.open, self.detectors.conditions(self.now), self.detectors.ended(), now=self.now)
        self.reasons += [alarm.close_reason for alarm in after if not alarm.is_open]
        self.open = [alarm for alarm in after if alarm.is_open]
        return [alarm.kind for alarm in self.open]

    def restart(self) -> None:
        """Nothing is known but what is kept."""
        self.detectors = Detectors(SETTINGS, self.now)
        self.detectors.adopt([alarm_of(alarm_row(alarm)) for alarm in self.open])

    def passes(self, span: timedelta, *, restart_every: timedelta = 9999 * DAY) -> None:
        """Time in which nothing comes, judged every five minutes."""
        until, next_at = self.now + span, self.now + restart_every
        while self.now < until:
            self.now += 5 * MINUTE
            if self.now >= next_at:
                next_at += restart_every
                self.restart()
            self.judged()


def _link(fleet: Fleet, rtt_ms: float | None, lost: int, link: tuple[str, str, str] = LINK) -> None:
    for _ in range(70):
        fleet.detectors.bucket(link, fleet.now, 80.0, 10, 0)
        fleet.now += MINUTE
    for _ in range(5):
        fleet.detectors.bucket(link, fleet.now, rtt_ms, 10, lost)
        fleet.now += MINUTE


def _slower(fleet: Fleet) -> None:
    _link(fleet, 200.0, 0)


def _cut(fleet: Fleet) -> None:
    _link(fleet, None, 10)


def _moved(fleet: Fleet) -> None:
    for hop in ["10.0.0.1"] * 5 + ["10.7.7.7"] * 3:
        fleet.detectors.trace(TRACE, (hop, "192.0.2.7"), fleet.now, flow=0)
        fleet.now += 5 * MINUTE


def _flipped(fleet: Fleet) -> None:
    for routes in ([OLD, NEW], [NEW, Choice(OLD.sites, OLD.pool, 95.0)], [NEW, OLD]):
        fleet.detectors.routes("fra", "chat", routes, fleet.now)
        fleet.now += 5 * MINUTE


KINDS = [("rtt_shift", _slower), ("loss_shift", _cut), ("path_change", _moved), ("route_flip", _flipped)]


@pytest.mark.parametrize(("kind", "goes_wrong"), KINDS)
@pytest.mark.parametrize("restart_every", [9999 * DAY, 7 * HOUR], ids=["", "restarts"])
def test_what_is_not_measured_any_more_ends_in_a_day(kind: str, goes_wrong: Callable[[Fleet], None], restart_every: timedelta) -> None:
    """Open for a day, restarts or not; then it is over, for that reason, and nothing is left of it."""
    fleet = Fleet()
    goes_wrong(fleet)
    assert fleet.judged() == [kind]
    fleet.passes(DAY - HOUR, restart_every=restart_every)
    assert fleet.judged() == [kind]
    fleet.passes(HOUR, restart_every=restart_every)
    assert (fleet.open, fleet.reasons) == ([], ["not measured any more"])
    assert fleet.detectors.link_count == 0
    fleet.restart()
    assert fleet.judged() == []


def test_what_is_measured_stays_and_what_was_well_goes_quietly() -> None:
    """Of two links, one measured on: its alarm and its detector stay; the other leaves nothing, and no alarm."""
    fleet = Fleet()
    _link(fleet, 80.0, 0, ("fra", "lon", "internet"))
    _cut(fleet)
    for _ in range(25 * 60):
        fleet.detectors.bucket(LINK, fleet.now, None, 10, 10)
        fleet.now += MINUTE
        if fleet.now.minute % 5 == 0 and fleet.now < NOW + DAY:
            assert fleet.judged() == ["loss_shift"]
    assert fleet.judged() in (["loss_shift"], [])  # a day of it is the usual
    assert (fleet.detectors.link_count, "not measured any more" in fleet.reasons) == (1, False)


def test_a_collector_that_was_down_for_days_waits_for_what_comes() -> None:
    """Down for three days it heard of nothing: what was open is, until a day has passed in which it listened."""
    fleet = Fleet()
    _cut(fleet)
    assert fleet.judged() == ["loss_shift"]
    fleet.now += 3 * DAY
    fleet.restart()
    assert fleet.judged() == ["loss_shift"]
    fleet.passes(DAY - HOUR)
    assert fleet.judged() == ["loss_shift"]
    fleet.passes(HOUR)
    assert fleet.reasons == ["not measured any more"]


def test_days_ahead_are_no_days_without_a_measurement() -> None:
    """The collector's clock is set forward by three days, and back: nothing ends for that."""
    fleet = Fleet()
    _cut(fleet)
    fleet.judged()
    for by in (3 * DAY, -3 * DAY):
        fleet.now += by
        fleet.detectors.clock_was_set(by, fleet.now)
        assert fleet.judged() == ["loss_shift"]
    fleet.passes(DAY + 5 * MINUTE)
    assert fleet.reasons == ["not measured any more"]


def test_all_links_share_the_time_of_a_bucket() -> None:
    """There may be hundreds of thousands of links: when each was measured last costs a reference, no time of its own."""
    detectors = Detectors(SETTINGS, NOW)
    for minute in range(3):
        for n in range(50):
            detectors.bucket(("fra", f"s{n}", "internet"), NOW + minute * MINUTE, 80.0, 10, 0)
    assert len({id(one.measured_at) for table in (detectors._rtt, detectors._loss) for one in table.values()}) == 1
