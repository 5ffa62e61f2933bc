"""What a topology says about time: reading it, its mistakes, and an agenda that carries it out. No packets."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from random import Random

import pytest

from lab.agenda import Agenda
from lab.forwarding import Forwarder
from lab.reading import parse, parse_text
from lab.script import parse_events
from lab.topology import Topology, builtin
from records.errors import InputError

S = 10**9
MS = 10**6
BASE = """
name = "pair"
sites = [
    { id = "a", kind = "pop", name = "A", lat = 0, lon = 0 },
    { id = "b", kind = "pop", name = "B", lat = 0, lon = 90 },
]
routers = [{ id = "r", medium = "internet" }, { id = "s", medium = "backbone" }]
links = [
    { between = ["a", "r"], delay_ms = 5, loss = 0.1, rate = "10Mbit/s" },
    { between = ["r", "b"], delay_ms = 3 },
    { between = ["a", "s"], delay_ms = 1 },
    { between = ["a", "b"], medium = "direct-connect", delay_ms = 1 },
    { between = ["a", "b"], medium = "backbone", delay_ms = 1 },
]

[[events]]
at_s = 10
every_s = 60
until_s = 200
op = "degrade"
between = ["a", "r"]
one_way = true
delay_ms = 7.25
rate = "2Mbit/s"

[[events]]
at_s = 20.5
op = "set_router"
router = "r"
silent = true

[[events]]
at_s = 30
op = "fail_site"
site = "b"

[[congestion]]
links = [["a", "r"]]
one_way = true
period_s = 240
peak_at_s = 120
delay_ms = [1, 9]
loss = 0.5
rate_share = 0.25

[[congestion]]
site = "b"
peak_local_h = 18
jitter_ms = 2
"""


@pytest.fixture
def world() -> Topology:
    return parse_text(BASE, "pair.toml")


def test_a_script_survives_its_document(world: Topology) -> None:
    """Events and congestion are the same after they were written as JSON and read again."""
    assert parse(json.loads(json.dumps(world.document())), "again") == world
    assert [str(event.action) for event in world.events] == [
        "degrade a -> r (internet), delay_ms 7.25, rate 2000000bit/s",
        "set router r, silent true",
        "fail site b",
    ]


MISTAKES = {
    "no time": ("at_s = 20.5\n", "", "events[2].at_s: missing"),
    "before the start": ("at_s = 20.5", "at_s = -1", "events[2].at_s: -1 is out of range"),
    "end before the beginning": ("until_s = 200", "until_s = 9", "events[1].until_s: 9 is before the event's first time, 10"),
    "end of what does not repeat": ("every_s = 60\n", "", "events[1].until_s: an end without an interval"),
    "unknown operation": ('op = "fail_site"', 'op = "explode"', "events[3].op: 'explode' is not one of fail, restore"),
    "unknown site": ('site = "b"\n\n[[congestion]]', 'site = "bb"\n\n[[congestion]]', "events[3].site: there is no site 'bb'"),
    "unknown router": ('router = "r"', 'router = "rr"', "events[2].router: there is no router 'rr'; did you mean r"),
    "no such link": ('between = ["a", "r"]\none_way = true\ndelay_ms', 'between = ["r", "s"]\none_way = true\ndelay_ms',
                     "events[1].between: there is no link from 'r' to 's'; r is joined to a, b"),
    "a link to nowhere": ('between = ["a", "r"]\none_way = true\ndelay_ms', 'between = ["x", "r"]\none_way = true\ndelay_ms',
                          "events[1].between: there is no site or router 'x'"),
    "several media": ('between = ["a", "r"]\none_way = true\ndelay_ms', 'between = ["a", "b"]\none_way = true\ndelay_ms',
                      "events[1].between: a and b are joined over direct-connect, backbone; say which medium"),
    "operand of another": ("silent = true", "silent = true\nmtu = 1400", "events[2].mtu: set_router takes no mtu"),
    "nothing to set": ("silent = true\n", "", "events[2].op: set changes nothing"),
    "negative delay": ("delay_ms = 7.25", "delay_ms = -7.25", "events[1].delay_ms: -7.25 is out of range; 0 to 10000"),
    "unknown key": ("until_s = 200", "untill_s = 200", "events[1].untill_s: unknown key; did you mean 'until_s'"),
    "which links": ('links = [["a", "r"]]', 'links = [["a", "r"]]\nmedium = "internet"', "congestion[1].links: say which links by exactly"),
    "when": ("peak_at_s = 120\n", "", "congestion[1].peak_at_s: say when the peak is"),
    "peak after the period": ("peak_at_s = 120", "peak_at_s = 240", "congestion[1].peak_at_s: 240 is not within the period of 240 s"),
    "nothing changes": ("jitter_ms = 2\n", "", "congestion[2].delay_ms: nothing changes"),
    "no rate to share": ('links = [["a", "r"]]', 'links = [["r", "b"]]', "congestion[1].rate_share: r -> b has no rate"),
    "unknown congested link": ('links = [["a", "r"]]', 'links = [["a", "r"], ["r", "s"]]', "congestion[1].links[2]: there is no link"),
    "no such hour": ('links = [["a", "r"]]\none_way = true\nperiod_s = 240\npeak_at_s = 120',
                     'medium = "direct-connect"\npeak_local_h = 25', "congestion[1].peak_local_h: 25 is out of range; 0 to 24"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_a_script_is_named_with_its_line(name: str) -> None:
    """Every mistake is one InputError with the file, the line of the key, or of the table where the key is missing."""
    old, new, message = MISTAKES[name]
    text = BASE.replace(old, new, 1)
    assert text != BASE
    with pytest.raises(InputError) as caught:
        parse_text(text, "pair.toml")
    assert str(caught.value).startswith(f"pair.toml:{caught.value.line}: {message}")
    # What the line holds: the key that is at fault, else the header of its table.
    table, key = message.partition(":")[0].split(".")
    shown = text.splitlines()[(caught.value.line or 0) - 1]
    assert shown.startswith((key.partition("[")[0], f"[[{table.partition('[')[0]}]]"))


def test_a_file_of_events(tmp_path: Path, world: Topology) -> None:
    """A file to be played holds events only; its mistakes have lines too."""
    path = tmp_path / "script.toml"
    path.write_text('[[events]]\nat_s = 1\nop = "restore"\nbetween = ["a", "r"]\n')
    (event,) = parse_events(path, world)
    assert (event.at_ns, str(event.action)) == (S, "restore a <-> r (internet)")
    path.write_text('[[events]]\nat_s = 1\nop = "restore"\nbetween = ["a", "x"]\n')
    with pytest.raises(InputError, match=r"script\.toml:4: events\[1\]\.between: there is no link from 'a' to 'x'"):
        parse_events(path, world)
    path.write_text("")
    with pytest.raises(InputError, match="there is no event"):
        parse_events(path, world)


def test_an_agenda_does_what_its_script_says(world: Topology) -> None:
    """Every 60 s from 10 s the delay is 7.25 ms; at 20.5 s the router falls silent; at 30 s b is gone; then a played restore."""
    agenda = Agenda(Forwarder(world, Random(1).random), start_ns=1000 * S)
    link, back = (agenda.forwarder.states[key] for key in (("a", "r", "internet"), ("r", "a", "internet")))
    assert agenda.due_ns is not None
    agenda.advance(1009 * S)
    assert (link.settled, agenda.report(1009 * S)["events"]["done"]) == (link.configured, 0)
    agenda.advance(1010 * S)
    assert (link.settled.delay_ns, link.settled.rate_bps, back.settled) == (7_250_000, 2_000_000, back.configured)
    agenda.advance(1040 * S)
    assert agenda.forwarder.routers["r"].silent
    assert not agenda.forwarder.states["b", "r", "internet"].up
    agenda.play(
        parse_text(BASE.replace('op = "degrade"', 'op = "restore"').replace('delay_ms = 7.25\nrate = "2Mbit/s"\n', ""), "x").events[:1],
        1040 * S,
    )
    agenda.advance(1055 * S)
    assert link.settled == link.configured
    report = agenda.report(1056 * S)
    assert report["up_s"] == 56
    assert [(e["at_s"], e["due_s"], e["op"]) for e in report["events"]["last"]] == [
        (10, 10, "degrade"), (40, 20.5, "set_router"), (40, 30, "fail_site"), (55, 50, "restore")]  # fmt: skip
    assert [(e["at_s"], e["op"]) for e in report["events"]["ahead"][:3]] == [(70, "degrade"), (110, "restore"), (130, "degrade")]
    assert {(e["src"], e["dst"]) for e in report["edited"] if "b" in e.values()} == {
        ("r", "b"), ("b", "r"), ("a", "b"), ("b", "a")}  # fmt: skip


@pytest.mark.parametrize(
    ("at_s", "delay_ms", "loss", "rate_bps"), [(0, 6, 0.1, 10_000_000), (120, 14, 0.55, 2_500_000), (60, 10, 0.325, 6_250_000)]
)
def test_congestion_comes_on_top(world: Topology, at_s: int, delay_ms: float, loss: float, rate_bps: int) -> None:
    """On 5 ms, 10 % and 10 Mbit/s: 1 to 9 ms, 0 to 50 % and 100 to 25 %; only from a to r; and `changed` says so."""
    agenda = Agenda(Forwarder(world, Random(1).random), start_ns=0)
    agenda.advance(at_s * S)
    # Events are not what this is about.
    for state in agenda.forwarder.states.values():
        state.up = True
    agenda.forwarder.states["a", "r", "internet"].change(
        parse_text(BASE.replace('op = "degrade"', 'op = "restore"').replace('delay_ms = 7.25\nrate = "2Mbit/s"\n', ""), "x")
        .events[0]
        .action.change
    )  # type: ignore[union-attr]
    link = agenda.forwarder.states["a", "r", "internet"]
    assert link.delay_ns / MS == pytest.approx(delay_ms, abs=0.001)
    assert (link.loss_ratio, link.rate_bps) == (pytest.approx(loss, abs=1e-4), pytest.approx(rate_bps, rel=1e-3))
    assert agenda.forwarder.states["r", "a", "internet"].delay_ns == 5 * MS
    now = {found.key: found for _, found in agenda.forwarder.changed()}
    assert now["a", "r", "internet"].delay_ns == link.delay_ns


def test_congestion_comes_and_goes_by_events(world: Topology) -> None:
    """A rule by event adds to the file's own; calm takes off both; what is not meant keeps its load; tables read back."""
    text = (
        BASE
        + """
[[events]]
at_s = 300
op = "congest"
links = [["a", "r"]]
period_s = 10
peak_at_s = 5
delay_ms = [3, 20]

[[events]]
at_s = 400
op = "calm"
site = "a"
one_way = true
"""
    )
    world = parse_text(text, "pair.toml")
    assert parse(json.loads(json.dumps(world.document())), "again") == world
    agenda = Agenda(Forwarder(world, Random(1).random), start_ns=0)
    there, back = (agenda.forwarder.states[key].load for key in (("a", "r", "internet"), ("r", "a", "internet")))
    assert (there.delay_ns, back.delay_ns) == (MS, 0)
    agenda.advance(360 * S)  # the file's own peak, and the event's quiet moment
    there, back = (agenda.forwarder.states[key].load for key in (("a", "r", "internet"), ("r", "a", "internet")))
    assert (there.delay_ns, back.delay_ns) == (9 * MS + 3 * MS, 3 * MS)
    agenda.advance(405 * S)
    there, back = (agenda.forwarder.states[key].load for key in (("a", "r", "internet"), ("r", "a", "internet")))
    assert (there.delay_ns > 20 * MS, back.delay_ns) == (True, 0)
    assert [event["action"] for event in agenda.report(405 * S)["events"]["last"][-2:]] == [
        "congest a <-> r (internet), every 10 s", "calm site a inwards"]  # fmt: skip
    for where, words in (
        ('site = "a"\nmedium = "internet"', "exactly one of links"),
        ('links = [["r", "s"]]', "there is no link from 'r' to 's'"),
    ):
        with pytest.raises(InputError, match=words):
            parse_text(BASE + f'[[events]]\nat_s = 1\nop = "calm"\n{where}\n', "x")


def test_many_congested_links_are_all_brought_up_to_date() -> None:
    """In a world of more links than one slice holds, every link has the load of its time after one step of the clock."""
    text = (
        Path("lab/worlds/world-24.toml").read_text("utf-8")
        + '[[congestion]]\nmedium = "internet"\nperiod_s = 100\npeak_at_s = 0\ndelay_ms = 10\n'
    )
    world = parse_text(text, "busy.toml")
    agenda = Agenda(Forwarder(world, Random(1).random), start_ns=0)
    internet = [state for key, state in agenda.forwarder.states.items() if key[2] == "internet"]
    assert len(internet) > 150
    assert all(state.load.delay_ns == 10 * MS for state in internet)
    now = 0
    while now < 50 * S:
        assert agenda.due_ns is not None
        now = max(now + 1, agenda.due_ns)
        agenda.advance(now)
    # At the quiet hour the curve is flat: a step away from it is less than a thousandth of the height.
    assert all(state.load.delay_ns < 0.02 * MS for state in internet)
    assert len(agenda.report(now)["congested"]) >= len(internet) - 64


def test_worlds_with_scripts_have_them() -> None:
    """blackout repeats four events; diurnal has two rules; nothing else ships with a script."""
    assert [event.every_ns for event in builtin("blackout").events] == [120 * S] * 4
    assert len(builtin("diurnal").congestion) == 2
    assert not builtin("world-24").events
    assert tomllib.loads(Path("lab/worlds/blackout.toml").read_text("utf-8"))["events"]
