"""A running agent gets another configuration, whole or not at all; and what it tells systemd. Real packets on loopback."""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from probes_collector import Collector, served

from probes.config import load_config
from probes.daemon import Agent, Summary
from probes.notify import Notifier
from probes.schedule import phase_ns
from probes.threads import DaemonThreads
from records.units import MS

pytestmark = [pytest.mark.alone, pytest.mark.waits]

PING = '[[probe]]\ntype = "ping"\nengine = "udp"\ninterval_s = 0.25\ncount = 1\ntimeout_ms = 500\n'


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write(folder: Path, url: str, port: int, sites: str, *, probe: str = PING, agent: str = "", extra: str = "") -> Path:
    path = folder / "agent.toml"
    targets = "".join(f'[[target]]\nsite = "{site}"\naddress = "127.0.0.1"\nudp_echo_port = {port}\n' for site in sites.split())
    path.write_text(
        f'[agent]\nid = "sin-1"\nsite = "sin"\nspool_dir = "spool"\nallow_private_targets = true\n'
        f"status_interval_s = 1\njitter = 0\n{agent}"
        f'[collector]\nurl = "{url}"\nbatch_max_age_s = 0.2\n[serve]\nhost = "127.0.0.1"\nudp_echo_port = {port}\n{extra}{probe}{targets}'
    )
    return path


def run(path: Path, play: Callable[[Agent], Awaitable[None]], notifier: Notifier | None = None) -> Summary:
    """An agent while a script is played."""

    async def go() -> Summary:
        stop = asyncio.Event()
        agent = Agent(load_config(path), notifier=notifier)
        running = asyncio.create_task(agent.run(stop))
        await play(agent)
        stop.set()
        return await running

    return asyncio.run(go())


async def until(collector: Collector, wanted: Callable[[list[dict]], bool]) -> None:
    deadline = time.monotonic() + 20
    while not wanted([line for line in collector.lines() if line["type"] == "ping"]):
        assert time.monotonic() < deadline, "the agent does not measure what it should"
        await asyncio.sleep(0.05)


def of(pings: list[dict], site: str) -> list[dict]:
    return [line for line in pings if line["dst"] == site]


def test_a_reload_adds_and_removes_targets_and_moves_nobody(tmp_path: Path) -> None:
    """fra stays and keeps its phase and its life, iad goes, nrt comes: without a restart, a gap or a second boot."""
    port = free_port()
    with served() as collector:
        path = write(tmp_path, collector.url, port, "fra iad")

        async def play(agent: Agent) -> None:
            await until(collector, lambda pings: len(of(pings, "fra")) > 2 and len(of(pings, "iad")) > 2)
            write(tmp_path, collector.url, port, "fra nrt", extra="[limits]\npackets_per_second = 50\n")
            agent.reload_soon()
            await until(collector, lambda pings: len(of(pings, "nrt")) > 2)
            gone = len([line for line in collector.lines() if line.get("dst") == "iad"])
            await until(collector, lambda pings: len(of(pings, "nrt")) > 5)
            assert len([line for line in collector.lines() if line.get("dst") == "iad"]) - gone <= 1

        run(path, play)
        lines = collector.lines()
    assert len({line["boot"] for line in lines if line["type"] == "status"}) == 1
    fra = sorted(line["started_at_ns"] for line in lines if line.get("dst") == "fra")
    interval = 250 * MS
    phase = phase_ns("sin-1", "fra", "internet", "ping", interval)
    assert sum((at - phase) % interval < interval // 2 for at in fra) >= len(fra) - 2, "its rounds stay where the hash put them"
    late_reports = [line["skipped_rounds"] for line in lines if line["type"] == "status"]
    assert len(fra) + late_reports[-1] >= (fra[-1] - fra[0]) // interval


REFUSED: list[tuple[dict[str, str], str]] = [
    ({"sites": "fra iad", "probe": PING.replace("count = 1", "cuont = 1")}, "unknown key 'cuont'"),
    ({"sites": "iad", "extra": '[policy]\nopt_out_file = "none.txt"\n'}, "none.txt cannot be read"),
    ({"sites": "iad", "port": "1"}, "[serve] is changed"),
    ({"sites": "iad", "probe": PING.replace('"udp"', '"icmplib"').replace("ping", "stamp")}, "unknown key 'engine'"),
]


def test_a_bad_configuration_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A misspelt key, a list that cannot be read, what takes a restart, a key of another type: refused, and the old one goes on."""
    port = free_port()
    with served() as collector:
        path = write(tmp_path, collector.url, port, "fra")

        async def play(agent: Agent) -> None:
            await until(collector, lambda pings: len(pings) > 1)
            for number, (change, _) in enumerate(REFUSED, 1):
                more = {"port": str(port), **change}
                write(tmp_path, collector.url, int(more.pop("port")), more.pop("sites"), **more)
                agent.reload_soon()
                deadline = time.monotonic() + 20
                while caplog.text.count("not reloaded") < number:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.02)
            before = len([line for line in collector.lines() if line["type"] == "ping"])
            await until(collector, lambda pings: len(pings) > before + 1)

        run(path, play)
        pings = [line for line in collector.lines() if line["type"] == "ping"]
    for _, said in REFUSED:
        assert said in caplog.text
    assert {line["dst"] for line in pings} == {"fra"}


def test_a_probe_that_cannot_start_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A new http probe without its certificates: the reload is refused whole, though its new target is sound."""
    port = free_port()
    with served() as collector:
        path = write(tmp_path, collector.url, port, "fra")
        broken = PING + '[[probe]]\ntype = "http"\ninterval_s = 60\nca_file = "none.pem"\n'

        async def play(agent: Agent) -> None:
            await until(collector, lambda pings: len(pings) > 1)
            write(tmp_path, collector.url, port, "fra iad", probe=broken)
            path.write_text(path.read_text() + '[[target]]\nsite = "web"\naddress = "127.0.0.1"\nhttp_url = "http://127.0.0.1:9/"\n')
            agent.reload_soon()
            deadline = time.monotonic() + 20
            while "not reloaded" not in caplog.text:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)

        run(path, play)
        assert "http cannot start" in caplog.text
        assert {line["dst"] for line in collector.lines() if line["type"] == "ping"} == {"fra"}


def test_a_reload_may_change_the_collector(tmp_path: Path) -> None:
    """Another address: what is measured from then on goes there, and nothing is lost between the two."""
    port = free_port()
    with served() as first, served() as second:
        path = write(tmp_path, first.url, port, "fra")

        async def play(agent: Agent) -> None:
            await until(first, lambda pings: len(pings) > 1)
            write(tmp_path, second.url, port, "fra")
            agent.reload_soon()
            await until(second, lambda pings: len(pings) > 2)

        summary = run(path, play)
        ids = [line["id"] for line in [*first.lines(), *second.lines()] if line["type"] == "ping"]
    assert len(set(ids)) == summary.produced["ping"]
    assert summary.waiting_batches == 0


def test_who_opts_out_is_left_alone_from_the_reload_on(tmp_path: Path) -> None:
    """A line in the opt-out file and a SIGHUP: no packet to that address any more."""
    port = free_port()
    with served() as collector:
        (tmp_path / "out.txt").write_text("# nobody yet\n")
        policy = '[policy]\nopt_out_file = "out.txt"\n'
        path = write(tmp_path, collector.url, port, "fra", extra=policy)
        spare = '[[target]]\nsite = "local"\naddress = "localhost"\nudp_echo_port = 9\n'
        path.write_text(path.read_text() + spare)

        async def play(agent: Agent) -> None:
            await until(collector, lambda pings: bool(of(pings, "fra")) and bool(of(pings, "local")))
            (tmp_path / "out.txt").write_text("127.0.0.0/8\n::1/128\n")
            agent.reload_soon()
            await asyncio.sleep(0.5)
            produced = [line for line in collector.lines() if line["type"] == "ping"]
            await asyncio.sleep(1.2)
            now = [line for line in collector.lines() if line["type"] == "ping"]
            assert len(now) - len(produced) <= 2, "fra by its address, localhost by where it leads"

        run(path, play)
        last = [line for line in collector.lines() if line["type"] == "status"][-1]
    assert last["opted_out_rounds"] > 0
    assert last["failures"].get("agent") is None, "and that is nobody's failure"


def test_systemd_is_told_what_happens(tmp_path: Path) -> None:
    """READY after everything is open, WATCHDOG while the loop turns, RELOADING and READY again, STOPPING at the end (sd_notify(3))."""
    port = free_port()
    with served() as collector, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        heard: list[str] = []

        def listen() -> None:
            while True:
                try:
                    heard.append(listener.recv(4096).decode())
                except BlockingIOError:
                    return

        path = write(tmp_path, collector.url, port, "fra")

        async def play(agent: Agent) -> None:
            await until(collector, lambda pings: len(pings) > 1)
            listen()
            agent.reload_soon()
            await until(collector, lambda pings: len(pings) > 4)

        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000", "WATCHDOG_PID": str(os.getpid())}
        run(path, play, Notifier(environment))
        listen()
    first = [text.split("=")[0] for text in heard]
    kinds = [kind for kind in first if kind != "WATCHDOG"]
    assert kinds == ["READY", "RELOADING", "READY", "STOPPING"]
    assert first.count("WATCHDOG") >= 2


def test_a_clock_that_is_set_moves_no_round_and_no_rtt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody sets the wall clock an hour ahead: rounds and RTTs go on as they were, and the status says so."""
    port, real = free_port(), time.time_ns
    with served() as collector:
        path = write(tmp_path, collector.url, port, "fra")

        async def play(agent: Agent) -> None:
            await until(collector, lambda pings: len(pings) > 2)
            monkeypatch.setattr(time, "time_ns", lambda: real() + 3600 * 10**9)
            before = len([line for line in collector.lines() if line["type"] == "ping"])
            await until(collector, lambda pings: len(pings) > before + 6)

        run(path, play)
        lines = collector.lines()
    pings = [line for line in lines if line["type"] == "ping"]
    started = [line["started_at_ns"] for line in pings]
    assert max(started) - min(started) > 3600 * 10**9, "rows say when by the clock there is"
    assert all(0 < sample["rtt_ns"] < 500 * MS for line in pings for sample in line["samples"] if sample["outcome"] == "reply")
    last = [line for line in lines if line["type"] == "status"][-1]
    reasons = [reason for line in lines if line["type"] == "status" for reason in line["reasons"]]
    assert any(reason.startswith("wall clock was set by +3600") for reason in reasons)
    assert last["skipped_rounds"] <= 2, "nothing is skipped for it, and nothing caught up"


def test_a_hanging_call_holds_up_no_end() -> None:
    """A thread that blocks for an hour does not delay the loop's end, and results and errors come back as from any executor."""

    async def go() -> float:
        loop = asyncio.get_running_loop()
        threads = DaemonThreads(2, "test")
        loop.set_default_executor(threads)
        assert await asyncio.gather(*(asyncio.to_thread(lambda n=n: n * n) for n in range(50))) == [n * n for n in range(50)]
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)
        hanging = asyncio.create_task(asyncio.to_thread(time.sleep, 3600))
        assert await asyncio.to_thread(lambda: 7) == 7, "one thread hangs, the other works"
        hanging.cancel()
        return time.monotonic()

    ended = asyncio.run(go())
    assert ended
    threads = DaemonThreads(1, "test")
    threads.shutdown()
    with pytest.raises(RuntimeError):
        threads.submit(print)
