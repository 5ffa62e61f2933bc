"""The daemon with real packets: it measures its own UDP reflector on loopback and sends to a real HTTP server."""

import asyncio
import logging
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from probes_collector import Collector, served

from probes.check import check_agent
from probes.clock import clock_error_ns
from probes.config import AgentConfig, parse_config
from probes.daemon import Agent, Summary
from probes.guard import Guard
from probes.hosts import HostList
from probes.limits import PacketLimits
from probes.model import Target, Vantage, Withheld
from probes.policy import Policy
from probes.registry import PROBE_TYPES, ProbeFactory
from probes.runner import Runner, Skipped
from probes.schedule import phase_ns
from probes.status import LoopLag, Vitals, grade
from records.batch import Line
from records.errors import ConfigError, NotPermitted
from records.measurement import PingResult, PingSample
from records.units import MS, SECOND

pytestmark = [pytest.mark.alone, pytest.mark.waits]

ANYWHERE = Policy(is_private_allowed=True, allowed=None, opted_out=HostList())


@pytest.fixture
def collector() -> Iterator[Collector]:
    with served() as one:
        yield one


def _free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def configure(folder: Path, url: str, extra: str = "", *, port: int = 0, probe: str | None = None, drain_s: float = 5) -> AgentConfig:
    """An agent that pings its own reflector four times a second, two packets each."""
    port = port or _free_udp_port()
    ping = '[[probe]]\ntype = "ping"\nengine = "udp"\ninterval_s = 0.25\ncount = 2\ninterval_ms = 10\ntimeout_ms = 500\n'
    return parse_config(
        f'[agent]\nid = "sin-1"\nsite = "sin"\nspool_dir = "spool"\nallow_private_targets = true\n'
        f"status_interval_s = 1\ndrain_s = {drain_s}\n"
        f'[collector]\nurl = "{url}"\nbatch_max_age_s = 0.3\n[serve]\nhost = "127.0.0.1"\nudp_echo_port = {port}\n'
        f'[[target]]\nsite = "fra"\naddress = "127.0.0.1"\nudp_echo_port = {port}\n{probe if probe is not None else ping}{extra}',
        folder / "agent.toml",
    )


def run(config: AgentConfig, seconds: float, enough: Callable[[], bool] = lambda: True) -> Summary:
    """A life of so many seconds; up to twenty more on a busy machine, where it has not measured enough by then."""

    async def end(stop: asyncio.Event) -> None:
        await asyncio.sleep(seconds)
        latest = time.monotonic() + 20
        while not enough() and time.monotonic() < latest:  # noqa: ASYNC110  the collector tells nobody what it heard
            await asyncio.sleep(0.05)
        stop.set()

    async def go() -> Summary:
        stop = asyncio.Event()
        ending = asyncio.create_task(end(stop))
        summary = await Agent(config, rng=random.Random(1)).run(stop)
        ending.cancel()
        return summary

    return asyncio.run(go())


def test_everything_measured_arrives_once_and_the_last_status_counts_it(collector: Collector, tmp_path: Path) -> None:
    """What the final status says was produced is what the collector holds: no measurement lost, none twice."""
    summary = run(configure(tmp_path, collector.url), 1.6, lambda: sum(line["type"] == "ping" for line in collector.lines()) >= 3)
    lines = collector.lines()
    pings = [line for line in lines if line["type"] == "ping"]
    statuses = [line for line in lines if line["type"] == "status"]
    assert len(pings) == summary.produced["ping"] == statuses[-1]["produced"]["ping"] >= 3
    assert len({line["id"] for line in pings}) == len(pings)
    assert summary.waiting_batches == 0
    assert len(statuses) >= 2
    assert {line["agent"] for line in lines} == {"sin-1"}
    assert {(line["src"], line["dst"], line["medium"], line["method"]) for line in pings} == {("sin", "fra", "internet", "udp")}
    assert all(sample["outcome"] == "reply" and sample["rtt_ns"] > 0 for line in pings for sample in line["samples"])
    assert statuses[-1]["grade"] in {"ok", "degraded"}
    assert statuses[-1]["dropped_measurements"] == 0


def test_without_a_collector_everything_waits_for_the_next_life(tmp_path: Path, unused_port: int) -> None:
    """Three lives without a collector, then one with it: all four arrive under their own boot ids, oldest first (up to eight at once)."""
    produced = Counter()
    boots = []
    for _ in range(3):
        summary = run(configure(tmp_path, f"http://127.0.0.1:{unused_port}", drain_s=0), 0.6)
        assert summary.stored_batches == 0
        assert summary.waiting_batches >= 1
        produced["ping"] += summary.produced["ping"]
    with served() as collector:
        summary = run(configure(tmp_path, collector.url), 0.6)
        produced["ping"] += summary.produced["ping"]
        boots = [headers["Isochrone-Boot"] for headers, _ in collector.requests]
        pings = [line for line in collector.lines() if line["type"] == "ping"]
    assert len(set(boots)) == 4
    in_order = sorted(range(len(boots)), key=lambda i: (list(dict.fromkeys(boots)).index(boots[i]), i))
    assert all(abs(place - i) < 8 for place, i in enumerate(in_order)), "one life after the other, but for the eight that fly at once"
    assert len(pings) == len({line["id"] for line in pings}) == produced["ping"] > 0


def test_rounds_come_at_their_phase(collector: Collector, tmp_path: Path) -> None:
    """The phase on the wall clock is the hash's: the promptest round starts in the half interval after it."""

    run(configure(tmp_path, collector.url), 1.5)
    interval = 250 * MS
    phase = phase_ns("sin-1", "fra", "internet", "ping", interval)
    started = [line["started_at_ns"] for line in collector.lines() if line["type"] == "ping"]
    assert min((at - phase) % interval for at in started) < interval // 2


class _Broken:
    """A probe type that fails as the test says."""

    name = "broken"
    running = 0
    most = 0

    def __init__(self, config: object) -> None:
        self.config = config

    async def open(self) -> None:
        if getattr(self.config, "count", 0) == 7:
            raise NotPermitted("the test closes its sockets; grant nothing")

    async def once(self, target: Target, vantage: Vantage) -> tuple[Line, ...]:
        cls = type(self)
        cls.running += 1
        cls.most = max(cls.most, cls.running)
        try:
            if getattr(self.config, "count", 0) == 9:
                raise Withheld("the budget of 5 requests a day is used up until 00:00 UTC")
            await asyncio.sleep(0.05)
            if getattr(self.config, "count", 0) == 8:
                await asyncio.sleep(3600)
            raise ZeroDivisionError("a fault of ours")
        finally:
            cls.running -= 1

    async def close(self) -> None:
        pass


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> type[_Broken]:
    """A type "broken" in the registry, with the settings of ping."""
    import probes.ping

    _Broken.running = _Broken.most = 0
    monkeypatch.setattr(probes.ping, "BrokenProbe", _Broken, raising=False)
    factory = ProbeFactory(
        help="fails",
        module="probes.ping",
        config_name="PingConfig",
        probe_name="BrokenProbe",
        at_once=1,
        needs=lambda _: None,
        packets=lambda _: 0,
        longest_s=lambda config: 0.2 if config.count == 8 else 10,
    )
    monkeypatch.setitem(PROBE_TYPES, "broken", factory)
    return _Broken


BROKEN = '[[probe]]\ntype = "broken"\ninterval_s = 0.3\n'


def test_a_failing_probe_is_counted_and_ends_nothing(collector: Collector, tmp_path: Path, broken: type[_Broken]) -> None:
    """A probe type with a bug: the others go on, the agent grades itself degraded and says which and why."""
    summary = run(configure(tmp_path, collector.url, extra=BROKEN), 2.4)
    statuses = [line for line in collector.lines() if line["type"] == "status"]
    reasons = [reason for status in statuses for reason in status["reasons"]]
    assert any(reason.startswith("broken: ") and "a fault of ours" in reason for reason in reasons)
    assert summary.produced["ping"] > 0


def test_a_measurement_that_hangs_is_ended(collector: Collector, tmp_path: Path, broken: type[_Broken]) -> None:
    """A probe that never returns is cancelled after its longest time, counted, and its place is free again."""
    run(configure(tmp_path, collector.url, extra=BROKEN + "count = 8\n"), 2.4)
    reasons = [reason for line in collector.lines() if line["type"] == "status" for reason in line["reasons"]]
    assert any("it did not end in time" in reason for reason in reasons)
    assert broken.running == 0


def test_a_type_that_runs_alone_never_overlaps(collector: Collector, tmp_path: Path, broken: type[_Broken]) -> None:
    """at_once = 1 (throughput's rule) holds over all tables and targets of the type."""
    targets = "".join(f'[[target]]\nsite = "t{n}"\naddress = "127.0.0.{n}"\n' for n in range(2, 12))
    run(configure(tmp_path, collector.url, extra=BROKEN + BROKEN + targets), 1.5)
    assert broken.most == 1


def test_a_type_that_cannot_open_leaves_the_others_running(collector: Collector, tmp_path: Path, broken: type[_Broken]) -> None:
    """Sockets closed to one type: it is reported with what to grant; the rest measures."""
    summary = run(configure(tmp_path, collector.url, extra=BROKEN + "count = 7\n"), 1.5)
    reasons = [reason for line in collector.lines() if line["type"] == "status" for reason in line["reasons"]]
    assert any("the test closes its sockets" in reason for reason in reasons)
    assert summary.produced["ping"] > 0


def test_an_agent_that_can_measure_nothing_does_not_start(collector: Collector, tmp_path: Path, broken: type[_Broken]) -> None:
    """When no probe type opens: NotPermitted (exit status 3) with the reason, instead of silence."""
    with pytest.raises(NotPermitted, match="the test closes its sockets"):
        run(configure(tmp_path, collector.url, probe=BROKEN + "count = 7\n"), 5)


def test_a_port_in_use_is_said_at_once(collector: Collector, tmp_path: Path) -> None:
    """A reflector that cannot listen: ConfigError with the port, before anything is measured."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=str(port)):
            run(configure(tmp_path, collector.url, port=port), 5)


def test_check_tries_everything_and_says_what_fails(collector: Collector, tmp_path: Path, unused_port: int) -> None:
    """`agent check`: with all in place every check is ok (but a collector without /readyz); without, each says what is wrong."""
    config = configure(tmp_path, f"http://127.0.0.1:{unused_port}", extra='[[target]]\nsite = "x"\naddress = "no-such-host.invalid"\n')
    found = {check.name: check for check in asyncio.run(check_agent(config))}
    assert {name for name, check in found.items() if check.is_ok} == {
        "spool",
        "probe ping",
        "serve.udp_echo_port",
        "target fra (internet)",
    }
    assert "isochrone collector" in found["collector"].detail
    assert not (tmp_path / "spool").exists(), "a check leaves nothing behind"


def test_a_name_does_not_lead_where_an_address_may_not(tmp_path: Path) -> None:
    """localhost is a name for 127.0.0.1: refused without allow_private_targets, also as the host of a URL."""

    async def go() -> None:
        strict = Guard(Policy(is_private_allowed=False, allowed=None, opted_out=HostList()))
        for hosts in (["localhost"], ["8.8.8.8", "localhost"], ["localhost"]):
            with pytest.raises(NotPermitted, match=r"localhost leads to .*loopback"):
                await strict.check(hosts)
        assert (await Guard(ANYWHERE).check(["localhost"])).address in {"127.0.0.1", "::1"}

    asyncio.run(go())


def test_a_round_that_finds_no_room_is_skipped(tmp_path: Path, broken: type[_Broken]) -> None:
    """With the packet budget used up, a round waits at most until the next one is due and is then given up."""
    config = configure(tmp_path, "http://127.0.0.1:9", probe="", extra=BROKEN.replace("broken", "ping") + 'engine = "udp"\n')
    limits = PacketLimits(total_per_s=1, per_target_per_s=1, largest_round=5)
    target = config.targets[0]
    vantage = Vantage(agent="sin-1", site="sin", boot="aa")

    async def go() -> None:
        import time

        runner = Runner(settings=config.probes[0], limits=limits, guard=Guard(ANYWHERE), room=asyncio.Semaphore(1))
        now = time.monotonic_ns()
        assert limits.take(target.address, 5, now) == 0
        with pytest.raises(Skipped):
            await runner.once(target, vantage, until_ns=now + 100 * MS)
        assert runner.tally.runs == 0
        await runner.room.acquire()
        with pytest.raises(Skipped):
            await runner.once(target, vantage, until_ns=time.monotonic_ns() + 20 * MS)

    asyncio.run(go())


def test_what_a_probe_holds_back_is_skipped_and_said(tmp_path: Path, broken: type[_Broken], caplog: pytest.LogCaptureFixture) -> None:
    """A budget that is used up is a skipped round and no failure; the journal says why, once."""
    config = configure(tmp_path, "http://127.0.0.1:9", probe="", extra=BROKEN + "count = 9\n")
    limits = PacketLimits(total_per_s=100, per_target_per_s=100, largest_round=5)

    async def go() -> None:
        runner = Runner(settings=config.probes[0], limits=limits, guard=Guard(ANYWHERE), room=asyncio.Semaphore(1))
        for _ in range(3):
            with pytest.raises(Skipped):
                await runner.once(config.targets[0], Vantage(agent="sin-1", site="sin", boot="aa"), until_ns=time.monotonic_ns() + 10**11)
        assert (runner.tally.runs, runner.tally.failures) == (0, 0)

    with caplog.at_level(logging.WARNING, logger="isochrone.agent"):
        asyncio.run(go())
    said = [record.getMessage() for record in caplog.records if "budget" in record.getMessage()]
    assert said == ["broken of fra over internet is skipped: the budget of 5 requests a day is used up until 00:00 UTC"]
    assert caplog.records[0].exc_info is None


def test_the_grade_names_every_reason() -> None:
    """Nothing wrong is ok; each limit passed adds one sentence; an unsynchronised clock (None) alone is no fault."""
    fine = Vitals(runs={"ping": 10}, failures={"ping": 5}, errors={}, rounds=100, skipped=10, loop_lag_p99_ns=250 * MS)
    assert grade(fine) == ("ok", ())
    bad = Vitals(
        runs={"ping": 10, "throughput": 0},
        failures={"ping": 6, "throughput": 0},
        errors={"ping": "no route"},
        rounds=100,
        skipped=11,
        loop_lag_p99_ns=251 * MS,
        clock_error_ns=2 * SECOND,
        dropped=3,
        not_stored=4,
    )
    verdict, reasons = grade(bad)
    assert verdict == "degraded"
    assert [reason.split()[0] for reason in reasons] == ["event", "wall", "11", "ping:", "3", "4"]


def test_loop_lag_sees_a_blocked_loop() -> None:
    """A loop that was blocked for 300 ms shows a lag of about that, and taking it starts anew."""

    async def go() -> tuple[int | None, int | None]:
        import time

        lag = LoopLag()
        task = asyncio.create_task(lag.run())
        await asyncio.sleep(0.05)
        time.sleep(0.3)  # noqa: ASYNC251  the block is what is measured
        await asyncio.sleep(0.15)
        first, second = lag.take_p99_ns(), lag.take_p99_ns()
        task.cancel()
        return first, second

    first, second = asyncio.run(go())
    assert first is not None
    assert first >= 150 * MS
    assert second is None


def test_the_clocks_error_is_a_bound_or_unknown() -> None:
    """adjtimex gives a non-negative error, or None where nobody keeps the clock; never a made-up zero from a failed call."""
    error = clock_error_ns()
    assert error is None or error >= 0


def test_a_number_that_cannot_be_written_costs_only_its_measurement(
    collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A float that JSON cannot carry (a bug in a probe) is logged; the daemon and the other measurements go on."""
    import probes.ping

    class NotANumber(_Broken):
        async def once(self, target: Target, vantage: Vantage) -> tuple[Line, ...]:
            header = vantage.header(target, measured="x", started_at_ns=0, engine="x/1")
            sample = PingSample(sequence=0, outcome="reply", sent_at_ns=0, rtt_ns=float("inf"), ts_source="user")  # type: ignore[arg-type]
            return (PingResult(**header, method="icmp", timeout_ns=1, samples=(sample,)),)

    monkeypatch.setattr(probes.ping, "PingProbe", NotANumber)
    summary = run(configure(tmp_path, collector.url), 0.8)
    assert summary.produced["ping"] == 0
    assert summary.stored_batches >= 1
    assert {line["type"] for line in collector.lines()} == {"status"}
