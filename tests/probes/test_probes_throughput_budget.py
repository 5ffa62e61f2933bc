"""Leases and budgets of throughput tests: pure state, a real file, and another process of this host."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.throughput.budget import Budget, cloud_of
from probes.throughput.config import ThroughputConfig
from probes.throughput.lease import Lease, LeaseHeld
from probes.throughput.sample import Plateau
from probes.throughput.train import Arrival, decode_packet, packet, plan, rate_bps
from records.errors import ConfigError, NotPermitted

MS = 1_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_has_one_holder_and_an_end() -> None:
    """The same name shares it, another is refused with the holder's; what is not given back expires, and a late release takes nothing."""
    clock = Clock()
    lease = Lease(clock)
    lease.take(b"one", "a test of fra", 5)
    lease.take(b"one", "its other direction", 5)
    with pytest.raises(LeaseHeld, match="a test of fra"):
        lease.take(b"two", "a test from iad", 5)
    lease.release(b"one")
    assert lease.holder == "a test of fra"
    clock.now += 5.1  # its holder died
    assert lease.holder is None
    lease.take(b"two", "a test from iad", 5)
    lease.release(b"one")
    assert lease.holder == "a test from iad"
    lease.release(b"two")
    assert lease.holder is None


def test_who_waits_gets_the_lease_when_it_is_free_and_no_later_than_asked() -> None:
    """Patience of 0 is refused at once; patience enough takes over from the one before."""

    async def run() -> list[str]:
        lease, told = Lease(), []

        async def one(name: str, wait_s: float) -> None:
            async with lease.awaited(name.encode(), name, 5, wait_s=wait_s):
                told.append(f"{name} has it")
                await asyncio.sleep(0.05)
                told.append(f"{name} gives it back")

        first = asyncio.create_task(one("a", 0))
        await asyncio.sleep(0)
        with pytest.raises(LeaseHeld, match="a"):
            await one("b", 0)
        await asyncio.gather(first, one("c", 10))
        return told

    assert asyncio.run(run()) == ["a has it", "a gives it back", "c has it", "c gives it back"]


def test_another_process_that_uses_the_same_address_is_kept_off_and_its_death_frees_it() -> None:
    """Held by a child, refused here; killed with SIGKILL, free at once."""
    code = (
        "import sys, time; from probes.throughput.lease import Lease\n"
        "lease = Lease(); lease.take(b'x', 'x', 60, '192.0.2.77'); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "held\n"
            with pytest.raises(LeaseHeld, match="another program"):
                Lease().take(b"y", "y", 5, "192.0.2.77")
            Lease().take(b"y", "y", 5, "192.0.2.78")  # another address is another link
            Lease().take(b"y", "y", 5, "127.0.0.1")  # and loopback is none
        finally:
            child.kill()
            child.wait(10)
    with Lease().held(b"y", "y", 5, "192.0.2.77"):
        pass


def _budget(path: Path | None, day: str = "2026-03-01", **limits: dict[str, float]) -> Budget:
    given = {"bytes_per_day": {}, "usd_per_day": {}, "egress_usd_per_gb": {}} | limits
    return Budget(**given, path=path, today=lambda: day)  # type: ignore[arg-type]


def test_bytes_are_counted_by_cloud_and_in_all_and_outlive_a_restart(tmp_path: Path) -> None:
    """900 of 1,000 bytes used: 100 more are in, 101 are not; another cloud goes on until all is used; the next day all is new."""
    path, limits = tmp_path / "state" / "spent.json", {"aws": 1000.0, "all": 1500.0}
    first = _budget(path, bytes_per_day=limits)
    first.book("sin", "aws:us-east-1", up_bytes=500, down_bytes=400)
    again = _budget(path, bytes_per_day=limits)
    assert again.refusal("sin", "aws:eu-west-1", up_bytes=100, down_bytes=0) is None
    refusal = again.refusal("sin", "aws:eu-west-1", up_bytes=100, down_bytes=1)
    assert refusal is not None
    assert "byte budget of aws for 2026-03-01 is spent: 900 of 1,000" in refusal
    again.book("sin", "fra", up_bytes=600, down_bytes=0)
    assert "of all clouds" in (again.refusal("sin", "gcp:x", up_bytes=1, down_bytes=0) or "")
    again.book("sin", "fra", up_bytes=-600, down_bytes=0)  # what was booked and not used
    assert again.refusal("sin", "gcp:x", up_bytes=600, down_bytes=0) is None
    assert _budget(path, "2026-03-02", bytes_per_day=limits).refusal("sin", "aws:x", up_bytes=1000, down_bytes=0) is None


def test_money_is_the_egress_of_the_end_that_sends() -> None:
    """From a PoP without a price to aws at 0.09 USD/GB: up is free, 2 GB down are 0.18 USD; from gcp up costs gcp's price."""
    budget = _budget(None, usd_per_day={"aws": 0.2}, egress_usd_per_gb={"aws": 0.09, "gcp": 0.12})
    assert budget.price("sin", "aws:x", up_bytes=5_000_000_000, down_bytes=2_000_000_000) == pytest.approx(0.18)
    assert budget.price("gcp:y", "sin", up_bytes=1_000_000_000, down_bytes=0) == pytest.approx(0.12)
    budget.book("sin", "aws:x", up_bytes=0, down_bytes=2_000_000_000)
    assert budget.refusal("sin", "aws:x", up_bytes=9_000_000_000, down_bytes=0) is None
    assert "money budget of aws" in (budget.refusal("sin", "aws:x", up_bytes=0, down_bytes=1_000_000_000) or "")
    assert (cloud_of("aws:x"), cloud_of("sin")) == ("aws", "own")


def test_damaged_books_are_refused_not_guessed(tmp_path: Path) -> None:
    """A torn or foreign file says what to do; a folder that cannot be made says so."""
    path = tmp_path / "spent.json"
    for text in ("", "{", "[]", '{"day": "2026-03-01"}', json.dumps({"day": "x", "bytes": {"aws": "many"}, "usd": {}})):
        path.write_text(text)
        with pytest.raises(ConfigError, match="damaged"):
            _budget(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotPermitted, match="cannot be"):
        _budget(tmp_path / "file" / "spent.json").book("a", "b", up_bytes=1, down_bytes=0)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"bytes_per_day": {"all": 1e9}}, "budget_file"),
        ({"bytes_per_day": {"all": -1}, "budget_file": "x"}, r"bytes_per_day\.all is -1"),
        ({"egress_usd_per_gb": {"aws": "dear"}}, r"egress_usd_per_gb\.aws is 'dear'"),
        ({"streams": 17}, "streams is 17"),
        ({"estimator": "guess"}, "estimator is 'guess'"),
        ({"protocol": "sctp"}, "protocol is 'sctp'"),
        ({"udp_rate_mbps": 0}, "udp_rate_mbps is 0"),
        ({"full_every": -1}, "full_every is -1"),
        ({"congestion_control": "eleven_char"}, "congestion_control"),
    ],
)
def test_settings_are_checked(settings: dict[str, object], says: str) -> None:
    """Each mistake is named with its value."""
    with pytest.raises(ConfigError, match=says):
        ThroughputConfig(**settings)  # type: ignore[arg-type]


@given(
    st.integers(1_000_000, 10**9),
    st.integers(8, 64),
    st.sets(st.integers(0, 63), max_size=4),
    st.integers(0, 10**6),
    st.sampled_from([4, 6]),
)
def test_trains_give_the_rate_that_spaced_them(rate: int, length: int, lost: set[int], start_ns: int, version: int) -> None:
    """Packets spaced by a bottleneck of a rate give that rate; a train that lost a tenth, or that its sender spread, gives none."""
    bits = (1400 + (28 if version == 4 else 48)) * 8
    came = [n for n in range(length) if n not in lost]
    # Those that were lost before the bottleneck took none of its time: the others come close behind each other.
    arrivals = [Arrival(0, n, length, start_ns + round(place * bits * 1e9 / rate)) for place, n in enumerate(came)]
    found = rate_bps(arrivals, version)
    if len(came) < max(8, 0.9 * length):
        assert found is None
    else:
        assert found == pytest.approx(rate, rel=1e-3)
    slow = [Arrival(0, a.number, a.of, a.at_ns, handed_ns=1 + a.at_ns) for a in arrivals]
    assert rate_bps(slow, version) is None
    assert rate_bps([Arrival(a.train, a.number, a.of, start_ns) for a in arrivals], version) is None


def test_a_budget_buys_whole_trains() -> None:
    """Never more than the bytes; less than the first train buys none."""
    for budget in (0, 30_000, 100_000, 700_000, 10**9):
        assert sum(plan(budget)) * (1400 + 48) <= budget
    assert plan(20_000) == ()
    assert sum(plan(10**9)) * 1448 < 1_000_000


@given(st.binary(max_size=60))
def test_foreign_datagrams_are_no_arrivals(data: bytes) -> None:
    """What is not of the test is passed over; what is comes back as it went."""
    assert decode_packet(data, b"abcdef", 1) is None
    assert decode_packet(packet(b"abcdef", 3, 4, 5, 6), b"abcdef", 7) == Arrival(3, 4, 5, 7, 6)
    assert decode_packet(packet(b"abcdef", 3, 4, 5), b"abcdeg", 7) is None


def test_a_plateau_is_a_rate_that_was_kept_up_for_two_round_trips() -> None:
    """A rate that doubles every 20 ms and then stands at 100 Mbit/s: told two round trips after the last step, never while it grows.

    A host that slept through 60 ms of its growth, and delivered nothing meanwhile, is not told to have found its rate.
    """

    def told(asleep: range) -> int | None:
        plateau, acked, rate = Plateau(), 0, 0
        for tick in range(200):
            if tick not in asleep:
                rate = min(100_000_000, 1_000_000 * 2 ** ((tick - len(asleep) * (tick >= asleep.stop)) // 10))
                acked += rate * 2 // 8000
            if plateau.add(tick * 2 * MS, rate, 20 * MS, acked):
                return tick * 2
        return None

    assert told(range(0)) is not None
    assert 140 + 40 <= (told(range(0)) or 0) <= 140 + 50  # 2^7 Mbit/s would be above 100
    slept = told(range(35, 65))
    assert slept is not None
    assert slept >= 200 + 40
