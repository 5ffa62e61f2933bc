"""Who is measured how often: seeing that an RTT moved, the tiers, and the plan. No packet, no clock."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.config import parse_config
from probes.memory import recall, remember
from probes.mesh import Mesh, MeshProbe, MeshSettings
from probes.plan import make_plan
from probes.settings import AgentConfig
from probes.shift import Finding, ShiftDetector
from records.errors import ConfigError
from records.units import MS, SECOND

PING = MeshProbe(interval_ns=10 * SECOND, rest_interval_ns=600 * SECOND, fast_interval_ns=2 * SECOND)


def detector() -> ShiftDetector:
    return ShiftDetector(step_ns=MS, share=0.1, rounds=3)


def fed(one: ShiftDetector, *rtts_ms: float | None) -> list[Finding]:
    return [one.observe(None if rtt is None else round(rtt * MS)) for rtt in rtts_ms]


def shifts(findings: list[Finding]) -> int:
    return findings.count(Finding.SHIFTED)


def test_a_step_is_seen_at_its_third_round_and_once() -> None:
    """20 ms, then 30 ms for good: suspected at once, a shift at the third round of it, and calm at the new level."""
    one = detector()
    fed(one, *[20] * 20)
    after = fed(one, *[30] * 20)
    assert after[:3] == [Finding.SUSPECT, Finding.SUSPECT, Finding.SHIFTED]
    assert shifts(after) == 1
    assert after[-1] is Finding.CALM
    assert one.baseline_ns == 30 * MS
    assert shifts(fed(one, *[20] * 5)) == 1, "and back again is a shift too"


@given(st.lists(st.sampled_from([0.0, 45.0, 300.0]), min_size=10, max_size=60), st.integers(0, 2**32))
def test_fewer_odd_rounds_in_a_row_than_asked_for_are_no_shift(odd: list[float], seed: int) -> None:
    """Outliers of any size, never two in a row on the same side, on a jittering path: no shift."""
    rng, one = random.Random(seed), detector()
    findings = fed(one, *(20 + rng.random() * 0.2 for _ in range(20)))
    for extra in odd:
        findings += fed(one, 20 + rng.random() * 0.2 + extra, 20 + rng.random() * 0.2)
    assert shifts(findings) == 0


def test_a_path_at_the_threshold_does_not_chatter() -> None:
    """A level 9 to 11 % off (the threshold is 10 %) for 200 rounds: one shift at most, however it hovers."""
    rng, one = random.Random(4), detector()
    fed(one, *[100] * 30)
    assert shifts(fed(one, *(rng.uniform(109, 111) for _ in range(200)))) <= 1


def test_half_the_threshold_neither_ends_a_run_nor_adds_to_it() -> None:
    """Two rounds off, one between half and all of the threshold, one off: a shift; with one within half: none."""
    one = detector()
    fed(one, *[100] * 20)
    assert fed(one, 120, 120, 107, 120) == [Finding.SUSPECT] * 3 + [Finding.SHIFTED]
    one = detector()
    fed(one, *[100] * 20)
    assert fed(one, 120, 120, 101, 120) == [Finding.SUSPECT, Finding.SUSPECT, Finding.CALM, Finding.SUSPECT]


def test_two_modes_stop_being_suspected() -> None:
    """A path that takes two ways at random: its own spread covers both after a while, and none of it is a shift for ever."""
    rng, one = random.Random(7), detector()
    findings = fed(one, *(rng.choice([20.0, 26.0]) for _ in range(300)))
    assert set(findings[100:]) == {Finding.CALM}


def test_falling_silent_and_speaking_again_are_shifts() -> None:
    """Three rounds without a reply are one, and so are three with one after that; a single lost round is none."""
    one = detector()
    fed(one, *[20] * 10)
    assert shifts(fed(one, None, 20, None, None, 20)) == 0
    assert fed(one, None, None, None) == [Finding.SUSPECT, Finding.SUSPECT, Finding.SHIFTED]
    assert one.baseline_ns is None
    assert shifts(fed(one, *[None] * 50)) == 0
    assert fed(one, 20, 20, 20)[-1] is Finding.SHIFTED


def test_a_target_that_never_answered_never_moved() -> None:
    """Nothing is learnt from silence: no shift, and the first answers are no shift either once they make a baseline."""
    one = detector()
    assert shifts(fed(one, *[None] * 20)) == 0


def mesh(count: int, nearest: int = 3, **more: object) -> Mesh:
    settings = MeshSettings(nearest=nearest, **more)  # type: ignore[arg-type]
    return Mesh(settings, {"ping": PING}, [(f"s{n}", "internet") for n in range(count)])


def answer(one: Mesh, rtts_ms: dict[int, float], at_s: int = 0) -> None:
    for n, rtt in rtts_ms.items():
        one.observe("ping", (f"s{n}", "internet"), round(rtt * MS), at_s * SECOND)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=40, unique=True), st.integers(0, 10))
def test_the_nearest_are_those_of_the_least_rtt(rtts_ms: list[int], nearest: int) -> None:
    """Against sorting by hand."""
    one = mesh(len(rtts_ms), nearest)
    answer(one, dict(enumerate(rtts_ms)))
    by_hand = {n for n, _ in sorted(enumerate(rtts_ms), key=lambda item: item[1])[:nearest]}
    # Each was ranked when it first answered: those who came first stay unless another is nearer by a tenth.
    chosen = {n for n in range(len(rtts_ms)) if one.tier((f"s{n}", "internet")) == "nearest"}
    assert len(chosen) == min(nearest, len(rtts_ms))
    if chosen:
        assert max(rtts_ms[n] for n in chosen) * 0.9 <= max(rtts_ms[n] for n in by_hand)
    assert all(one.interval_ns("ping", (f"s{n}", "internet")) == (10 if n in chosen else 600) * SECOND for n in range(len(rtts_ms)))


def test_equally_near_targets_do_not_take_turns() -> None:
    """A rival must be nearer by a tenth."""
    one = mesh(2, 1)
    answer(one, {0: 20.0})
    for _ in range(9):
        answer(one, {0: 20.0, 1: 18.5})
    one.rank()
    assert one.tier(("s0", "internet")) == "nearest"
    for _ in range(30):
        answer(one, {1: 17.0})
    one.rank()
    assert (one.tier(("s0", "internet")), one.tier(("s1", "internet"))) == ("rest", "nearest")


def test_a_new_target_is_tried_more_often_and_given_up_after_three_rounds() -> None:
    """Every minute until it answers; silent for three rounds it joins the rotation."""
    one, key = mesh(1), ("s0", "internet")
    assert (one.tier(key), one.interval_ns("ping", key)) == ("new", 60 * SECOND)
    for _ in range(3):
        one.observe("ping", key, None, 0)
    assert (one.tier(key), one.interval_ns("ping", key)) == ("rest", 600 * SECOND)


def test_landmarks_do_not_count_among_the_nearest() -> None:
    """By site or by site and medium; measured at the full pace from the start, RTT known or not."""
    settings = MeshSettings(nearest=1, landmarks=("s0", "s1@backbone"))
    one = Mesh(settings, {"ping": PING}, [("s0", "internet"), ("s1", "backbone"), ("s1", "internet"), ("s2", "internet")])
    for site, rtt in (("s0", 1), ("s1", 5), ("s2", 9)):
        one.observe("ping", (site, "internet"), rtt * MS, 0)
    tiers = {key: one.tier(key) for key in one.targets()}
    assert tiers == {
        ("s0", "internet"): "landmark",
        ("s1", "backbone"): "landmark",
        ("s1", "internet"): "nearest",
        ("s2", "internet"): "rest",
    }
    assert one.interval_ns("ping", ("s1", "backbone")) == 10 * SECOND


def test_what_moves_is_measured_faster_for_a_quarter_of_an_hour() -> None:
    """Suspicion speeds it up at once, proof keeps it so for 900 s, and then its tier's pace is back."""
    one, key = mesh(1, nearest=0), ("s0", "internet")
    for _ in range(10):
        one.observe("ping", key, 20 * MS, 0)
    assert one.interval_ns("ping", key) == 600 * SECOND
    assert one.observe("ping", key, 40 * MS, 100 * SECOND)
    assert one.interval_ns("ping", key) == 2 * SECOND
    one.observe("ping", key, 40 * MS, 102 * SECOND)
    one.observe("ping", key, 40 * MS, 104 * SECOND)
    assert one.shifts == 1
    one.calm_down(1003 * SECOND)
    assert one.interval_ns("ping", key) == 2 * SECOND
    one.calm_down(1004 * SECOND)
    assert one.interval_ns("ping", key) == 600 * SECOND


def test_a_false_suspicion_ends_with_the_round_that_refutes_it() -> None:
    """One odd round, one good one: back to its pace at once."""
    one, key = mesh(1, nearest=0), ("s0", "internet")
    for _ in range(10):
        one.observe("ping", key, 20 * MS, 0)
    one.observe("ping", key, 40 * MS, SECOND)
    assert one.observe("ping", key, 20 * MS, 3 * SECOND)
    assert (one.interval_ns("ping", key), one.fast, one.shifts) == (600 * SECOND, 0, 0)


def test_an_event_that_moves_everything_is_no_flood() -> None:
    """Thirty targets move together: no more than fast_at_most are fast, the others are counted."""
    one = mesh(30, nearest=0, fast_at_most=5)
    for _ in range(10):
        answer(one, dict.fromkeys(range(30), 20.0))
    for second in range(3):
        answer(one, dict.fromkeys(range(30), 50.0), second)
    assert one.fast == 5
    assert one.fast_refused > 0
    assert one.shifts == 30


def test_a_reload_keeps_what_is_known() -> None:
    """Targets that stay keep tier and baseline, gone ones go, a landmark that is one no more is ranked like the others."""
    one = mesh(4, nearest=1, landmarks=("s3",))
    answer(one, {0: 10.0, 1: 20.0, 2: 30.0, 3: 5.0})
    one.update(MeshSettings(nearest=2), {"ping": PING}, [(f"s{n}", "internet") for n in (0, 1, 3, 9)])
    assert {key[0]: one.tier(key) for key in one.targets()} == {"s0": "nearest", "s1": "rest", "s3": "nearest", "s9": "new"}
    one.update(MeshSettings(nearest=2, shift_ms=5), {"ping": PING}, [("s0", "internet"), ("s1", "internet")])
    assert one.rtts_ns() == {("s0", "internet"): 10 * MS, ("s1", "internet"): 20 * MS}, "another sense of a shift keeps the RTTs"


def test_a_restart_knows_who_is_near(tmp_path: Path) -> None:
    """RTTs outlive the process; a damaged file only costs a few rounds."""
    remember(tmp_path, {("aws:us-east-1", "direct-connect"): 5 * MS, ("b", "internet"): 50 * MS})
    found = recall(tmp_path)
    one = Mesh(MeshSettings(nearest=1), {"ping": PING}, found, found)
    assert [one.tier(key) for key in found] == ["nearest", "rest"]
    for text in ("", "{", "[]", '{"rtt_ns": 5}', '{"rtt_ns": {"a": 1}}', '{"rtt_ns": {"a@b": true, "c@d": "x", "e@f": -1}}', "[" * 10**5):
        (tmp_path / "mesh.json").write_text(text)
        assert recall(tmp_path) == {}


def fleet(count: int, probe: str, extra: str = "") -> AgentConfig:
    base = '[agent]\nid = "sin-1"\nsite = "sin"\nallow_private_targets = true\n[collector]\nurl = "http://127.0.0.1:8600"\n'
    targets = "".join(f'[[target]]\nsite = "s{n}"\naddress = "10.0.{n // 200}.{n % 200 + 1}"\n' for n in range(count))
    return parse_config(base + extra + probe + targets, Path("/etc/isochrone/agent.toml"))


def test_the_plan_by_hand() -> None:
    """500 targets, 2 landmarks, 20 nearest, 478 in rotation: rates and bytes worked out by hand."""
    probe = '[[probe]]\ntype = "ping"\ninterval_s = 10\nrest_interval_s = 600\nfast_interval_s = 2\ncount = 5\npayload_bytes = 56\n'
    limits = '[limits]\npackets_per_second = 120\n[mesh]\nlandmarks = ["s0", "s1"]\n'
    plan = make_plan(fleet(500, probe, limits))
    rows = {row.tier: row for row in plan.rows}
    assert {tier: row.targets for tier, row in rows.items()} == {"landmark": 2, "nearest": 20, "rest": 478, "new": 498, "fast": 20}
    # 22 x 5 / 10 s + 478 x 5 / 600 s; at the start 2 x 5 / 10 s + 498 x 5 / 60 s; 20 x 5 / 2 s more while RTTs move.
    assert plan.packets_per_s == pytest.approx(11 + 478 * 5 / 600)
    assert plan.packets_per_s_at_start == pytest.approx(1 + 498 * 5 / 60)
    assert plan.packets_per_s_at_most == pytest.approx(11 + 478 * 5 / 600 + 50)
    # Both ways, 56 octets and at most 48 of headers a packet, 8640 rounds a day.
    assert rows["nearest"].bytes_per_day == 20 * 8640 * 5 * 2 * 104


@pytest.mark.parametrize(
    ("count", "probe", "extra", "said"),
    [
        (3, "rest_interval_s = 5\n", "", "rest_interval_s is less than interval_s"),
        (3, "fast_interval_s = 20\n", "", "fast_interval_s is more than interval_s"),
        (3, "rest_interval_s = true\n", "", "rest_interval_s is True; give a number of seconds"),
        (3, "", '[mesh]\nlandmarks = ["fra"]\n', "landmarks names 'fra', which is no"),
        (3, "", "[mesh]\nlandmarks = 3\n", "landmarks is 3; give a list of texts"),
        (3, "", "[mesh]\nnearest = -1\n", "nearest is -1; give 0 to"),
        (3, "", "[mesh]\nshift_rounds = 1\n", "shift_rounds is 1; give 2 to"),
        (250, "rest_interval_s = 600\nfast_interval_s = 1\n", "", "the probes need 112 packets/s, packets_per_second allows 100"),
        (199, "", "[limits]\npackets_per_second_per_network = 90\n", "10.0.0.0/24 would get 100 packets/s, packets_per_second_per_network"),
    ],
)
def test_mistakes_of_the_mesh_are_refused_by_name(count: int, probe: str, extra: str, said: str) -> None:
    """Which key, its value and what is allowed."""
    with pytest.raises(ConfigError, match=said):
        fleet(count, '[[probe]]\ntype = "ping"\ninterval_s = 10\n' + probe, extra)


def test_a_mesh_needs_a_probe_that_shows_rtts() -> None:
    """Tiers of traceroute alone cannot be had."""
    with pytest.raises(ConfigError, match="give one to a ping or http"):
        fleet(3, '[[probe]]\ntype = "traceroute"\ninterval_s = 60\nrest_interval_s = 600\n')
