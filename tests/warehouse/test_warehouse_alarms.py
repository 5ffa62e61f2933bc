"""Alarms over a warehouse: what is stored raises the right one and only it, once whatever restarts, and tells a real webhook of it."""

from __future__ import annotations

import hmac
import itertools
import json
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from warehouse_builders import BOOT, NOW, batch, ping, put, report, trace
from webhook_receiver import Receiver, receiving

from alarms.courier import Courier, backoff
from alarms.flips import Choice
from alarms.settings import Settings, parse_settings
from alarms.watch import Evaluation, Watch
from records.batch import Line
from records.measurement import Hop
from warehouse import Warehouse, alarms, open_warehouse
from warehouse.rollup import rollup
from warehouse.store import store

MINUTE, MS = timedelta(minutes=1), 1_000_000
START = NOW - timedelta(hours=6)
SITES = ("fra", "lon", "sin")
PAIRS = [(a, b) for a in SITES for b in SITES if a != b]
RULES = """
[evaluate]
lag_s = 0
[data_missing]
after_s = 180
hold_s = 60
[shift]
window = 30
learn = 10
run = 3
[path_change]
learn = 3
settle_s = 7200
[notify]
group_wait_s = 60
group_interval_s = 120
"""
_IDS = itertools.count(1)


def _settings(more: str = "") -> Settings:
    return parse_settings(RULES + more, Path("alarms.toml"))


class World:
    """Four sites that measure each other, minute by minute; `rtt_ms`, `lost` (of five), `silent` and `hop` are what goes wrong.

    gone   links that are not measured
    """

    def __init__(self, wh: Warehouse, settings: Settings) -> None:
        self.wh, self.settings = wh, settings
        self.now = START
        self.rtt_ms: dict[str, float | None] = {}
        self.silent: set[str] = set()
        self.gone: set[str] = set()
        self.lost: dict[str, int] = {}
        self.hop = "10.0.0.1"
        self.made: dict[str, int] = {}
        self.watch = Watch(wh, settings, self.now)

    def fresh(self) -> None:
        """As after a restart of the collector: what there is is learnt."""
        self.watch = Watch(self.wh, self.settings, self.now)
        self.watch.step(self.now)

    def measured(self) -> list[Line]:
        """One more minute, as it is sent."""
        lines: list[Line] = []
        for src, dst in PAIRS:
            if src in self.silent or f"{src}_{dst}" in self.gone:
                continue
            rtt = self.rtt_ms.get(f"{src}_{dst}", 80.0)
            number = next(_IDS)
            value = None if rtt is None else round((rtt + number % 7 / 10) * MS)
            at = self.now + timedelta(seconds=number % 20)
            lost = self.lost.get(f"{src}_{dst}", 0)
            lines.append(ping(number, [value] * (5 - lost) + [None] * lost, at=at, agent=f"{src}-1", src=src, dst=dst))
        if "fra" not in self.silent:
            hops = (Hop(ttl=1, address=self.hop, rtt_ns=MS, replies=1), Hop(ttl=2, address="192.0.2.7", rtt_ns=2 * MS, replies=1))
            lines.append(trace(next(_IDS), at=self.now, agent="fra-1", src="fra", dst="sin", hops=hops, path_hash=self.hop))
        self.now += MINUTE
        for src in SITES:
            if src not in self.silent:
                self.made[src] = self.made.get(src, 0) + 2
                said = {"produced": {"ping": self.made[src], "throughput": 0}, "schedule": {"ping": 60 * 10**9}}
                lines.append(report(self.now, agent=f"{src}-1", site=src, boot=f"{src}{BOOT}"[:16], **said))
        return lines

    def minutes(self, count: int, routes: dict[tuple[str, str], list[Choice]] | None = None) -> Evaluation:
        """More minutes are measured and stored, and judged at their end."""
        batches = []
        for _ in range(count):
            lines = self.measured()
            agents = {line.agent: None for line in lines}
            batches += [batch([line for line in lines if line.agent == agent], agent=agent, received_at=self.now) for agent in agents]
        store(self.wh, batches)
        return self.watch.step(self.now, routes)

    def goes_wrong(self, **rtt_ms: float | None) -> None:
        """Links by name, such as fra_sin, and what they answer in now; the others in 80 ms, as all did before."""
        self.rtt_ms = rtt_ms


@pytest.fixture
def world(own: Warehouse) -> World:
    """A quarter of an hour in which all was well."""
    made = World(own, _settings())
    found = made.minutes(15)
    assert (found.open, found.link_count) == ((), 6)
    return made


def _kinds(found: Evaluation) -> list[tuple[str, str | None, str | None]]:
    return sorted((alarm.kind, alarm.src or alarm.agent, alarm.dst) for alarm in found.open)


def test_a_slower_link_is_one_alarm_and_only_that_through_restarts(world: World) -> None:
    """40 ms more on one direction: found at the third minute, the same one after a restart and a roll-up, and closed by recovery."""
    world.goes_wrong(lon_fra=120.0)
    assert world.minutes(2).open == ()
    found = world.minutes(1)
    assert _kinds(found) == [("rtt_shift", "lon", "fra")]
    (alarm,) = found.open
    assert (alarm.severity, alarm.unit, alarm.group_key) == ("warning", "ms", "pair:fra|lon")
    assert alarm.value == pytest.approx(120.3, abs=0.4)
    assert alarm.baseline == pytest.approx(80.3, abs=0.4)
    assert alarm.since == world.now - 3 * MINUTE
    rollup(world.wh, now=world.now)
    world.fresh()
    after = world.minutes(2)
    assert [one.id for one in after.open] == [alarm.id]
    world.goes_wrong()
    assert len(world.minutes(2).open) == 1
    closed = world.minutes(1)
    assert (closed.open, [one.close_reason for one in closed.closed]) == ((), ["recovered"])
    rows = alarms.alarm_rows(world.wh, closed_since=START)
    assert [(row["id"], row["close_reason"]) for row in rows] == [(alarm.id, "recovered")]
    world.fresh()
    assert world.minutes(3).open == ()


def test_a_past_is_judged_again_as_it_was_judged_then(world: World) -> None:
    """An open alarm is not ended by what was before it; one that is over for hours is counted as begun."""
    world.goes_wrong(lon_fra=120.0)
    (alarm,) = world.minutes(4).open
    again = Watch(world.wh, world.settings, START, replay=8 * MINUTE, is_dry=True).step(world.now)
    assert ([one.id for one in again.open], again.closed, again.begun) == ([alarm.id], (), {})
    world.goes_wrong()
    world.minutes(4)
    assert world.minutes(150).open == ()
    past = Watch(world.wh, world.settings, START, replay=162 * MINUTE, is_dry=True).step(world.now)
    assert (past.open, past.begun) == ((), {"rtt_shift": 1})


def test_a_site_that_is_cut_off_is_one_group(world: World) -> None:
    """Nothing reaches sin and its agent is silent: six links lost or quiet, one cause; all closes when it is back."""
    world.goes_wrong(fra_sin=None, lon_sin=None, sin_fra=None, sin_lon=None)
    world.silent = {"sin"}
    found = world.minutes(5)
    assert _kinds(found) == [
        ("data_missing", "sin-1", None),
        ("loss_shift", "fra", "sin"),
        ("loss_shift", "lon", "sin"),
    ]
    assert {alarm.group_key for alarm in found.open} == {"site:sin"}
    assert {alarm.severity for alarm in found.open} == {"critical"}
    assert found.open[0].group_title.startswith("sin: ")
    world.silent = set()
    world.goes_wrong()
    world.minutes(4)
    assert world.minutes(2).open == ()


def test_a_silent_type_is_missed_and_one_never_configured_or_revoked_is_not(world: World) -> None:
    """An agent that still reports but makes no pings; throughput is not on its schedule. Revoked, it is not missed any more."""
    revoked: set[str] = set()
    world.watch.revoked = lambda: revoked
    world.silent = {"lon"}
    quiet = dict(world.made)
    for _ in range(2):
        world.minutes(2)
        said = {"produced": {"ping": quiet["lon"], "throughput": 0}, "schedule": {"ping": 60 * 10**9}}
        at = world.now + timedelta(seconds=1)
        put(world.wh, report(at, agent="lon-1", site="lon", boot=f"lon{BOOT}"[:16], **said), received_at=at)
    found = world.minutes(1)
    assert [(one.agent, one.probe_type, one.severity) for one in found.open] == [("lon-1", "ping", "warning")]
    revoked.add("lon-1")
    after = world.minutes(1)
    assert [one.close_reason for one in after.closed] == ["revoked"]


def test_a_target_that_was_taken_out_is_no_alarm_for_ever(world: World) -> None:
    """Its link is down, then it is not measured any more: a day later the alarm is over, restarts or not; the others are watched on."""
    world.goes_wrong(fra_sin=None)
    assert _kinds(world.minutes(4)) == [("loss_shift", "fra", "sin")]
    world.goes_wrong()
    world.gone = {"fra_sin"}
    for hours in (10, 13):
        world.now += timedelta(hours=hours)
        assert _kinds(world.minutes(6)) == [("loss_shift", "fra", "sin")]
        world.fresh()
    world.now += timedelta(minutes=50)
    found = world.minutes(6)
    assert ([one.close_reason for one in found.closed], _kinds(found), found.link_count) == (["not measured any more"], [], 5)


def test_a_path_that_changed_for_good_and_one_that_wobbles(world: World) -> None:
    """Three traces over another hop are a change, two or turn-about are none; back for three, it is over."""
    for hop in ("10.9.9.9", "10.0.0.1"):
        world.hop = hop
        found = world.minutes(1)
        assert found.open == ()
    world.hop = "10.9.9.9"  # known by now: a way seen before is no news
    assert world.minutes(4).open == ()
    world.hop = "10.7.7.7"
    assert world.minutes(2).open == ()
    found = world.minutes(1)
    assert _kinds(found) == [("path_change", "fra", "sin")]
    assert (found.open[0].detail["changed_ttl"], found.open[0].detail["new"][0]) == (1, "10.7.7.7")
    world.fresh()
    assert len(world.minutes(1).open) == 1
    world.hop = "10.9.9.9"
    assert world.minutes(3).open == ()


def test_a_route_that_flips_by_more_than_it_must_be_worth(world: World) -> None:
    """2 ms better is no news, 20 ms better is at the second look; it is over when the old one is best again, also after a restart."""
    old, new = Choice(("fra", "sin"), "sin-l4", 90.0), Choice(("fra", "nyc"), "nyc-l4", 88.0)
    key = ("fra", "chat")
    for routes in ([old, new], [new, old], [new, old]):
        found = world.minutes(1, {key: routes})
        assert found.open == ()
    better = Choice(new.sites, new.pool, 70.0)
    world.minutes(1, {key: [better, old]})
    found = world.minutes(1, {key: [better, old]})
    assert [(one.kind, one.value, one.src, one.workload, one.group_key) for one in found.open] == [
        ("route_flip", 20.0, "fra", "chat", "routes")
    ]
    world.fresh()
    world.minutes(1, {key: [old, better]})
    back = world.minutes(1, {key: [old, better]})
    assert back.open == ()


def test_two_evaluators_open_nothing_twice(world: World) -> None:
    """Two collectors over one warehouse: one alarm, told once."""
    second = Watch(world.wh, world.settings, world.now)
    second.step(world.now)
    world.goes_wrong(lon_fra=120.0)
    found = world.minutes(4)
    other = second.step(world.now)
    assert [one.id for one in found.open] == [one.id for one in other.open]
    assert len(alarms.alarm_rows(world.wh)) == 1


# -- webhooks: a real HTTP server, and what it was sent ---------------------------------------------------------------------


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def _hooked(url: str, tmp_path: Path) -> Settings:
    secret = tmp_path / "secret"
    secret.write_text("k3y\n")
    secret.chmod(0o600)
    return _settings(f'[[webhook]]\nname = "ops"\nurl = "{url}"\nsecret_file = "{secret}"\ngive_up_s = 3600\n')


def test_a_group_is_one_signed_notice_and_its_end_another(world: World, receiver: Receiver, tmp_path: Path) -> None:
    """Four alarms of one cause, one POST after the wait, none while nothing changes; refused once it comes again; its end is told."""
    world.settings = _hooked(receiver.url, tmp_path)
    world.fresh()
    clock = [world.now]
    courier = Courier(world.wh, world.settings.webhooks, clock=lambda: clock[0])
    world.goes_wrong(fra_sin=None, lon_sin=None, sin_fra=None, sin_lon=None)
    receiver.answers = [503]
    for _ in range(4):
        world.minutes(2)
        clock[0] = world.now
        courier.round()
    assert [courier.outcomes["retried"], courier.outcomes["sent"], courier.waiting] == [1, 1, 0]
    (first, body), (second, again) = receiver.posted
    assert (body, first["Isochrone-Notice"]) == (again, second["Isochrone-Notice"])
    moment, _, mac = second["Isochrone-Signature"].partition(",v1=")
    assert mac == hmac.new(b"k3y", moment.removeprefix("t=").encode() + b"." + body, sha256).hexdigest()
    told = json.loads(body)
    assert (told["version"], told["status"], told["receiver"], told["groupKey"]) == ("4", "firing", "ops", "site:sin")
    assert {alert["labels"]["alertname"] for alert in told["alerts"]} == {"loss_shift"}
    assert {alert["status"] for alert in told["alerts"]} == {"firing"}
    assert set(told) == {
        *("version", "groupKey", "truncatedAlerts", "status", "receiver", "groupLabels"),
        *("commonLabels", "commonAnnotations", "externalURL", "alerts"),
    }
    world.goes_wrong()
    world.minutes(5)
    clock[0] = world.now
    courier.round()
    assert len(receiver.posted) == 3
    end = json.loads(receiver.posted[2][1])
    assert (end["status"], {alert["status"] for alert in end["alerts"]}) == ("resolved", {"resolved"})


def test_what_waits_survives_a_restart_and_is_given_up_in_time(world: World, receiver: Receiver, tmp_path: Path) -> None:
    """No server: the notice waits in the warehouse, opened again it goes out, once; 404 is final; the key is in no row."""
    world.settings = _hooked("http://127.0.0.1:9/hook", tmp_path)
    world.fresh()
    world.goes_wrong(lon_fra=200.0)
    world.minutes(3)
    world.minutes(1)
    now = world.now
    assert Courier(world.wh, world.settings.webhooks, clock=lambda: now).round() == 1
    place = world.wh.location
    world.wh.close()
    with open_warehouse(place, mode="write") as again:
        (row,) = alarms.due_notices(again)
        assert (row["attempt_count"], row["next_at"]) == (1, now + backoff(1))
        assert "k3y" not in json.dumps(row, default=str)
        hooks = _hooked(receiver.url, tmp_path).webhooks
        early = Courier(again, hooks, clock=lambda: now)
        assert (early.round(), receiver.posted) == (1, [])
        receiver.answers = [404]
        late = Courier(again, hooks, clock=lambda: now + MINUTE)
        assert (late.round(), late.outcomes["given_up"], len(receiver.posted)) == (0, 1, 1)
        assert alarms.due_notices(again) == []


def test_nothing_is_sent_of_what_is_silenced_and_no_storm_comes_through(world: World, receiver: Receiver, tmp_path: Path) -> None:
    """A silence of a kind: kept and shown, not sent. One notice an hour: of the two others the worse one goes, the rest is counted."""
    hook = f'[[webhook]]\nname = "ops"\nurl = "{receiver.url}"\n'
    world.settings = parse_settings(RULES.replace("[notify]", "[notify]\nper_hour = 1") + hook, tmp_path / "alarms.toml")
    world.fresh()
    silence = {"id": "s", "until_at": world.now + timedelta(days=1), "created_at": world.now, "created_by": "me", "reason": "works"}
    with alarms.changing(world.wh) as cursor:
        alarms.put_silences(cursor, [silence | {"alarm_id": None, "kind": "loss_shift", "site": None, "agent": None}])
    world.goes_wrong(lon_fra=95.0, fra_sin=400.0, sin_lon=None)
    world.minutes(4)
    found = world.minutes(1)
    assert sorted(one.kind for one in found.open) == ["loss_shift", "rtt_shift", "rtt_shift"]
    (row,) = alarms.due_notices(world.wh)
    assert (row["group_key"], found.held) == ("pair:fra|sin", 1)


def test_the_end_is_told_of_what_fell_below_its_severity(world: World, receiver: Receiver, tmp_path: Path) -> None:
    """All lost, then a fifth, for hours, then nothing: a webhook for what is critical is told twice, when it begins and when it is over."""
    world.settings = _hooked(f'{receiver.url}"\nmin_severity = "critical', tmp_path)
    world.fresh()
    world.goes_wrong(fra_sin=None)
    world.minutes(3)
    world.minutes(2)
    world.lost = {"fra_sin": 1}
    world.goes_wrong()
    for _ in range(3):
        found = world.minutes(100)
    assert [(one.severity, one.value) for one in found.open] == [("warning", 0.2)]
    assert _told(world) == ["firing"]
    world.lost = {}
    assert world.minutes(5).open == ()
    world.minutes(5)
    assert _told(world) == ["firing", "resolved"]


def test_the_end_is_told_after_a_silence_of_days(world: World, receiver: Receiver, tmp_path: Path) -> None:
    """Told, silenced for three days, over within minutes: nothing is said until the silence is over, then the end, through a restart."""
    world.settings = _hooked(receiver.url, tmp_path)
    world.fresh()
    world.goes_wrong(fra_sin=None)
    world.minutes(3)
    world.minutes(2)
    silence = {"id": "s", "until_at": world.now + timedelta(days=3), "created_at": world.now, "created_by": "me", "reason": "works"}
    with alarms.changing(world.wh) as cursor:
        alarms.put_silences(cursor, [silence | {"alarm_id": None, "kind": None, "site": "sin", "agent": None}])
    world.goes_wrong()
    assert world.minutes(5).open == ()
    world.fresh()
    world.now += timedelta(days=3) - MINUTE * 10
    world.watch.step(world.now)
    assert _told(world) == ["firing"]
    world.now += MINUTE * 10
    world.watch.step(world.now)
    world.watch.step(world.now + MINUTE)
    assert _told(world) == ["firing", "resolved"]


def _told(world: World) -> list[str]:
    return [row["status"] for row in alarms.due_notices(world.wh) if row["group_key"] == "pair:fra|sin"]


def test_times_between_attempts_grow_to_ten_minutes() -> None:
    """5 s, doubled."""
    assert [backoff(n) / timedelta(seconds=1) for n in (1, 2, 3, 7, 8, 500)] == [5, 10, 20, 320, 600, 600]
