"""The faults of one machine: processes killed, disks full, a catalog locked, clocks set, segments damaged, uploads in disorder."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from lab.faults.fleet import PACKETS
from lab.faults.judge import Outcome, measurements_in
from lab.faults.stage import Stage, small_disk
from probes.client import CollectorClient
from probes.segment import SEALED
from records.batch import BatchName
from records.errors import CollectorUnreachable, ToolMissing

__all__ = [
    "agent_killed",
    "catalog_locked",
    "clock_stepped",
    "collector_killed",
    "disk_full_agent",
    "disk_full_collector",
    "duplicated_and_reordered",
    "segment_corrupt",
]


def agent_killed(stage: Stage) -> Outcome:
    """The agent is killed (SIGKILL) again and again, at random moments, and started again at once."""
    kills = int(stage.pick(5, 2))
    collector = stage.collector()
    collector.start()
    agent = stage.agent(collector.url)
    agent.start()
    stage.stored(collector, 40)
    for _ in range(kills):
        agent.wait_measuring()
        time.sleep(stage.rng.uniform(0.0, 0.7))  # the moment is the matter
        agent.kill()
        watch = stage.watch(collector)
        agent.start()
    times = watch.wait()
    agent.wait_measuring()
    return stage.judge(
        times,
        allowed=kills * agent.under_way,
        bound=f"the rounds under way when it was killed, at most {agent.under_way} packets each time",
        notes=[f"{kills} kills"],
    )


def collector_killed(stage: Stage) -> Outcome:
    """The collector is killed (SIGKILL) again and again while five agents send, and started again at once."""
    kills = int(stage.pick(5, 2))
    collector = stage.collector()
    collector.start()
    agent = stage.agent(collector.url)
    agent.start()
    fleet = stage.fleet(collector.url, agents=4, lines_per_s=5)
    fleet.start()
    for _ in range(kills):
        stage.stored(collector, 30)
        time.sleep(stage.rng.uniform(0.0, 1.0))  # before, in and after a commit
        collector.kill()
        watch = stage.watch(collector)
        collector.start(is_awaited=False)
        collector.wait_ready()
    times = watch.wait()
    return stage.judge(times, notes=[f"{kills} kills"])


def disk_full_collector(stage: Stage) -> Outcome:
    """Not a byte is left on the collector's disk for a while."""
    with small_disk(stage.folder / "disk", 16) as disk:
        stage.warehouse = str(disk.path / "kept")
        collector = stage.collector(prefix=disk.prefix)
        collector.start()
        fleet = stage.fleet(collector.url, agents=5, lines_per_s=5)
        fleet.start()
        stage.stored(collector, 50)
        disk.fill()
        stage.until(lambda: fleet.troubled == 5, "every agent is told that its batch is not stored")
        time.sleep(stage.pick(8, 1))
        refused = sum(send.status == 503 for send in fleet.sends)
        disk.free()
        times = stage.watch(collector).wait()
        return stage.judge(times, warehouse=str(disk.outside / "kept"), notes=[f"{refused} batches answered 503"])


def disk_full_agent(stage: Stage) -> Outcome:
    """Not a byte is left on the agent's disk for a while."""
    with small_disk(stage.folder / "disk", 4) as disk:
        collector = stage.collector()
        collector.start()
        agent = stage.agent(collector.url, spool=disk.path / "spool", prefix=disk.prefix)
        agent.start()
        stage.stored(collector, 40)
        assert stage.reflector is not None
        before = stage.reflector.packets
        disk.fill()
        agent.wait_measuring(int(stage.pick(400, 80)))
        assert agent.process is not None
        if agent.process.poll() is not None:
            raise AssertionError(f"the agent ended on a full disk: {agent.said()[-1000:]}")
        missed = stage.reflector.packets - before
        disk.free()
        agent.spool = disk.outside / "spool"
        times = stage.watch(collector).wait()
        agent.wait_measuring()
        return stage.judge(
            times,
            allowed=missed + agent.under_way,
            bound=f"what it measured while there was no room, {missed} packets here and the rounds under way, counted in its status",
            notes=[f"it said: {agent.sentence('takes nothing more')}"],
        )


def catalog_locked(stage: Stage) -> Outcome:
    """First another process holds the warehouse's writer lock, then another program the SQLite catalog itself (BEGIN EXCLUSIVE)."""
    held_s = stage.pick(10, 3)
    collector = stage.collector()
    collector.start()
    fleet = stage.fleet(collector.url, agents=5, lines_per_s=5)
    fleet.start()
    stage.stored(collector, 50)
    lock = os.open(Path(stage.warehouse) / "writer.lock", os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        time.sleep(held_s)
    finally:
        os.close(lock)
    by_lock = stage.watch(collector).wait()
    with sqlite3.connect(Path(stage.warehouse) / "catalog.sqlite", timeout=30, isolation_level=None) as catalog:
        catalog.execute("BEGIN EXCLUSIVE")
        time.sleep(held_s)
        catalog.execute("ROLLBACK")
        watch = stage.watch(collector)
    catalog.close()
    times = watch.wait()
    refused = sum(send.status == 503 for send in fleet.sends)
    return stage.judge(
        times,
        notes=[
            f"each lock held for {held_s:.0f} s; {refused} batches answered 503",
            f"after the writer lock right again in {_seconds(by_lock[1])}",
        ],
    )


#: Where Debian's package puts it.
_FAKETIME = "*/faketime/libfaketimeMT.so.1"


def clock_stepped(stage: Stage) -> Outcome:
    """The agent's wall clock is set an hour ahead, back, an hour behind, and back; then the collector's the same.

    While the agent's is ahead of the collector's nothing is taken of it; what waited comes when they agree again.
    """
    library = next(Path("/usr/lib").glob(_FAKETIME), None)
    if library is None:
        raise ToolMissing("needs libfaketime: apt-get install libfaketime")
    files = {name: stage.folder / f"clock-{name}" for name in ("agent", "collector")}
    for file in files.values():
        file.write_text("+0\n")

    def environ(name: str) -> dict[str, str]:
        fixed = {"FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
        return {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(files[name]), **fixed}

    collector = stage.collector(environ=environ("collector"))
    collector.start()
    agent = stage.agent(collector.url, environ=environ("agent"))
    started_at = datetime.now(UTC)
    agent.start()
    stage.stored(collector, 40)
    reflector = stage.reflector
    assert reflector is not None
    began_s = time.monotonic()
    times: tuple[float | None, float | None] = (None, None)
    told = 0

    def is_told() -> bool:
        return collector.said().count("ahead of the collector") >= told

    for name in ("agent", "collector"):
        for offset_s in (3600, 0, -3600, 0):
            files[name].write_text(f"{offset_s:+d}\n")
            watch = stage.watch(collector)
            agent.wait_measuring(int(stage.pick(120, 60)))
            if offset_s == (3600 if name == "agent" else -3600):
                told += 1
                stage.until(is_told, "the collector says that it takes nothing")
            else:
                times = _slower(times, watch.wait())
    came = [at for at in reflector.at_s if at >= began_s]
    gaps = [later - earlier for earlier, later in pairwise(came)]
    return stage.judge(
        times,
        notes=[
            f"eight steps; longest pause between probe packets {max(gaps):.1f} s",
            f"the agent's status says: {_reason(stage.warehouse)}",
            f"while it was ahead the agent said: {agent.sentence('ahead of the collector')}",
            _ages(stage.warehouse, started_at),
        ],
        figures={"longest_pause_s": max(gaps)},
    )


def _reason(warehouse: str) -> str:
    from warehouse import open_warehouse

    with open_warehouse(warehouse) as wh, wh.cursor() as cursor:
        row = cursor.execute(
            "SELECT r FROM (SELECT unnest(reasons) AS r, reported_at FROM agent_status) WHERE r LIKE 'wall clock was set%' LIMIT 1"
        ).fetchone()
    return str(row[0]) if row else "nothing of the clock"


def _ages(warehouse: str, started_at: datetime) -> str:
    """What readers are shown of rows whose time is wrong; and whether a step came into an RTT."""
    from warehouse import open_warehouse

    with open_warehouse(warehouse) as wh, wh.cursor() as cursor:
        row = cursor.execute(
            "SELECT count(*), count(*) FILTER (started_at > now()), count(*) FILTER (started_at < ?), max(rtt_ns) / 1e6, min(rtt_ns) "
            "FROM ping_sample",
            [started_at],
        ).fetchone()
        moved = cursor.execute("SELECT count(*) FROM batch WHERE redated_ns IS NOT NULL").fetchone()
        valid = cursor.execute("SELECT count(*) FROM valid_ping").fetchone()
    assert row is not None
    assert moved is not None
    assert valid is not None
    rows, ahead, behind, most_ms, least_ns = row
    if least_ns < 0 or most_ms > 10_000:
        raise AssertionError(f"a step of the clock came into an RTT: {row}")
    if ahead:
        raise AssertionError(f"{ahead} of {rows} rows are dated ahead of now")
    return (
        f"{moved[0]} batches that the clock had dated an hour ahead came in dated rightly; {behind} of {rows} rows are dated before the "
        f"agent was started, for its clock was behind; {rows - valid[0]} are kept but not counted in any answer; "
        f"largest RTT {most_ms:.0f} ms"
    )


def segment_corrupt(stage: Stage) -> Outcome:
    """While the agent is down: a byte of one sealed segment flips, another is cut in half, the end of the open one is zeros."""
    collector = stage.collector()
    agent = stage.agent(collector.url, batch_max_bytes=10_000)
    agent.start()
    stage.until(lambda: len(_sealed(agent.spool)) >= stage.pick(8, 4), "segments wait")
    # Killed while its open segment holds at least two lines, for its end to be damaged.
    stage.until(lambda: any(path.stat().st_size > 3000 for path in agent.spool.glob("*.open")), "a segment is open")
    agent.kill()
    first, second, *_ = _sealed(agent.spool)
    flipped = bytearray(first.read_bytes())
    flipped[len(flipped) // 2] ^= 0x10
    first.write_bytes(flipped)
    with second.open("r+b") as file:
        file.truncate(second.stat().st_size // 2)
    lost = measurements_in(first) + measurements_in(second)
    for path in agent.spool.glob("*.open"):
        content = path.read_bytes()
        *_, start, _ = [0, *(n + 1 for n, byte in enumerate(content) if byte == 10)]
        lost += content[start:].count(b'"type":"ping"')
        path.write_bytes(content[:start] + bytes(len(content) - start))
    collector.start()
    watch = stage.watch(collector)
    agent.start()
    times = watch.wait()
    agent.wait_measuring()
    aside = len(list((agent.spool / "quarantine").glob("*")))
    return stage.judge(
        times,
        allowed=lost * PACKETS + agent.under_way,
        bound=f"what the damaged bytes held, {lost} measurements here, counted; and the rounds under way when it was killed",
        notes=[f"{aside} files put aside for whoever wants to look", f"it said: {agent.sentence('kept aside')[:160]}"],
    )


def _sealed(spool: Path) -> list[Path]:
    return sorted(path for path in spool.glob("*.ndjson.gz") if SEALED.fullmatch(path.name)) if spool.exists() else []


def duplicated_and_reordered(stage: Stage) -> Outcome:
    """Every batch of a day offline is sent three times, in random order, eight at once; then each agent sends its spool as ever."""
    collector = stage.collector()
    fleet = stage.fleet(collector.url, agents=6, lines_per_s=5, segment_bytes=20_000)
    fleet.open()
    for member in fleet.members:
        for n in range(int(stage.pick(60, 15))):
            member.put(20, time.time_ns() - n * 60 * 10**9)
        member.spool.seal()
    collector.start()
    watch = stage.watch(collector)
    # Their bytes are read before an agent deletes what is stored.
    copies = [batch for member in fleet.members for batch in _batches(member.agent, member.spool.directory)] * 3
    stage.rng.shuffle(copies)
    with ThreadPoolExecutor(1) as thread:
        statuses = thread.submit(lambda: asyncio.run(_send_all(collector.url, copies)))
        stage.stored(collector, len(copies) // 6 * PACKETS)
        fleet.go()
        times = watch.wait()
        said = statuses.result()
    return stage.judge(times, notes=[f"{len(copies)} uploads of {len(copies) // 3} batches: {said}, and each once more from its spool"])


def _batches(agent: str, spool: Path) -> list[tuple[BatchName, bytes]]:
    names = [(path, match) for path in spool.iterdir() if (match := SEALED.fullmatch(path.name))]
    return [(BatchName(agent, match[2], int(match[3])), path.read_bytes()) for path, match in names]


async def _send_all(url: str, batches: list[tuple[BatchName, bytes]]) -> str:
    client, door, statuses = CollectorClient(url), asyncio.Semaphore(8), list[int]()

    async def send(name: BatchName, body: bytes) -> None:
        async with door:
            try:
                statuses.append((await client.send(name, body)).status)
            except CollectorUnreachable:
                statuses.append(0)

    try:
        await asyncio.gather(*(send(name, body) for name, body in batches))
    finally:
        await client.close()
    return ", ".join(f"{statuses.count(status)} answered {status}" for status in sorted(set(statuses)))


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"


def _slower(one: tuple[float | None, float | None], other: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    """The slower of two recoveries; (None, None) is no recovery yet."""
    if one == (None, None):
        return other
    if None in other:
        return other
    return max(one[0] or 0, other[0] or 0), max(one[1] or 0, other[1] or 0)
