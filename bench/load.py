"""Load and soak: a fleet at the reference rate, or ten times that, into a collector, with the dashboard open and clicked in.

`--agents` agents (350: spool, keeper and uplink of the agent's own code in one process; what they measure is made up) put `--rate` times
2,900 probe packets a second into their spools and send them to `isochrone collector`; the dashboard is open over the same warehouse, and
a session in a process of its own chooses another site to focus on about every five seconds. Once a minute: memory of both servers (least
and most), packets made, answers 429 and 503, and how long clicks took. At the end: packets made against packets stored (none missing,
none twice), rejects, `warehouse verify`, and how fast memory grew: of the process that lived longest the least of each minute, over the
last two thirds of its life (least squares, MB an hour). The least of a minute is what stays after merges and drawings have let go of
theirs. The fleet walks through all pairs in 14 minutes at the reference rate, and memory grows with the pairs: a shorter run says nothing.

`--faults` is the soak: every `--fault-every` seconds or so a fault chosen by `--seed`: collector killed, frozen, its writer lock or its
catalog held by another, a tenth of the agents killed, segments damaged on purpose (what they held is allowed to be missing, and counted),
dashboard killed. `--kills-for` ends the kills of both servers after so many minutes, for a server that was just started says nothing of
its memory; the other faults go on. `--surge` puts so many minutes at ten times the rate, without faults, in front of it all.

Ctrl-C ends a run in order, with its report. The report so far is in `--out` after every minute.

    python bench/load.py [--minutes 30] [--rate 10] [--json] [--out load.json]
    python bench/load.py --minutes 120 --surge 30 --faults [--fault-every 60] [--kills-for 40]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import math
import os
import platform
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from app.dashboard import argv, environment  # noqa: E402
from inventory.load import load  # noqa: E402
from lab.faults.collector import Collector, free_port  # noqa: E402
from lab.faults.fleet import PACKETS, Fleet  # noqa: E402
from warehouse import open_warehouse  # noqa: E402
from warehouse.certificate import make_certificate  # noqa: E402
from warehouse.maintain import verify  # noqa: E402

#: Probe packets a second of 350 PoPs on the mesh.
REFERENCE = 2900.0
SAMPLE_S = 5.0


def click(port: int) -> None:
    """In a process of its own: one session that clicks for ever; a line of JSON for each click, or for a session that broke."""
    import dashboard

    dashboard.PORT = port

    async def session(number: int) -> None:
        one, ready = dashboard.Session(number), asyncio.Event()
        ready.set()
        task = asyncio.create_task(one.run(asyncio.Semaphore(1), ready, []))
        told = 0
        while not task.done():
            await asyncio.wait({task}, timeout=1.0)
            for took_ms in one.clicks_ms[told:]:
                print(json.dumps({"click_ms": took_ms}), flush=True)
            told = len(one.clicks_ms)
            if one.clicked_at is not None and time.perf_counter() - one.clicked_at > 110:
                task.cancel()
        raised = None if task.cancelled() else task.exception()
        print(json.dumps({"broke": type(raised).__name__ if raised else "unanswered", "faults": one.faults}), flush=True)

    for number in range(1_000_000):
        asyncio.run(session(number))
        time.sleep(2.0)


class Pages:
    """The dashboard and its session, each in a process of its own."""

    def __init__(self, folder: Path, warehouse: str) -> None:
        self.port = free_port()
        self.clicks_ms: list[float] = []
        self.broke: Counter[str] = Counter()
        self._log = (folder / "dashboard.log").open("ab")
        self._warehouse = warehouse
        self._clicker: subprocess.Popen[str] | None = None
        self.start()

    def open(self) -> None:
        """Open the session, once there is something to see."""
        if self._clicker is not None:
            return
        self._clicker = subprocess.Popen(
            [sys.executable, __file__, "--clicker", str(self.port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'bench'}"},
        )
        threading.Thread(target=self._read, args=(self._clicker,), daemon=True).start()

    def start(self) -> None:
        """Start the dashboard."""
        self.process = subprocess.Popen(
            argv("127.0.0.1", self.port),
            env={**os.environ, **environment(self._warehouse)},
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def kill(self) -> None:
        """End the dashboard without a word."""
        self.process.kill()
        self.process.wait(30)

    def close(self) -> None:
        """End both."""
        for one in (self._clicker, self.process):
            if one is not None:
                one.kill()
                one.wait(30)

    def _read(self, clicker: subprocess.Popen[str]) -> None:
        assert clicker.stdout is not None
        for line in clicker.stdout:
            said = json.loads(line)
            if "click_ms" in said:
                self.clicks_ms.append(said["click_ms"])
            else:
                self.broke[said["broke"]] += 1


def rss_mb(process: subprocess.Popen[bytes]) -> float | None:
    """Resident memory of a process in MB; None when it has ended."""
    try:
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass(frozen=True, slots=True)
class Sample:
    """Resident memory of one process at one moment."""

    at_s: float
    pid: int
    mb: float


def spread(samples: list[Sample]) -> list[int] | None:
    """Least and most, in MB."""
    return [round(min(one.mb for one in samples)), round(max(one.mb for one in samples))] if samples else None


def growth(samples: list[Sample]) -> dict[str, Any]:
    """Of the process that lived longest: minutes, the least MB of each minute, and how fast those grew over the last two thirds."""
    pid = Counter(one.pid for one in samples).most_common(1)[0][0]
    life = [one for one in samples if one.pid == pid]
    minutes: dict[int, list[Sample]] = {}
    for one in life:
        minutes.setdefault(int((one.at_s - life[0].at_s) // 60), []).append(one)
    floors = [(minute, min(one.mb for one in found)) for minute, found in sorted(minutes.items()) if len(found) > 5]
    late = floors[len(floors) // 3 :]
    slope = statistics.linear_regression(*zip(*late, strict=True)).slope * 60 if len(late) >= 8 else None
    return {
        "longest_life_min": round((life[-1].at_s - life[0].at_s) / 60, 1),
        "least_by_minute": [round(mb) for _, mb in floors],
        "slope_mb_per_hour": None if slope is None else round(slope, 1),
    }


def p95(values: list[float]) -> float | None:
    """The 95th percentile; None of nothing."""
    return round(sorted(values)[int(0.95 * (len(values) - 1))], 1) if values else None


class Mischief(threading.Thread):
    """Faults at random moments, each noted with how long it took until no agent was in trouble any more."""

    def __init__(self, run: Run, seed: int) -> None:
        super().__init__(daemon=True)
        self.run_, self.rng = run, random.Random(seed)
        self.journal: list[dict[str, Any]] = []
        self.over = threading.Event()

    def run(self) -> None:
        kills = [self.kill_collector, self.damage, self.kill_pages]
        others = [self.freeze_collector, self.hold_lock, self.hold_catalog, self.kill_agents]
        options = self.run_.options
        every_s, first_s = options.fault_every, self.run_.began_s + 60 * options.surge
        kills_until_s = math.inf if options.kills_for is None else first_s + 60 * options.kills_for
        self.over.wait(60 * options.surge)
        while not self.over.wait(self.rng.uniform(0.5 * every_s, 1.5 * every_s)):
            began = time.monotonic()
            kind = self.rng.choice(kills + others if began < kills_until_s else others)
            note: dict[str, Any] = {"at_s": round(began - self.run_.began_s), "fault": kind.__name__}
            self.journal.append(note)
            try:
                kind(note)
            except Exception as error:  # noqa: BLE001 - the run goes on, and its report says so
                note["failed"] = f"{type(error).__name__}: {error}"
            ended = time.monotonic()
            note["lasted_s"] = round(ended - began, 1)
            while self.run_.fleet.troubled and not self.over.is_set() and time.monotonic() < ended + 300:
                time.sleep(0.2)
            note["right_after_s"] = round(time.monotonic() - ended, 1)
            print(f"  fault: {note}", file=sys.stderr, flush=True)

    def kill_collector(self, note: dict[str, Any]) -> None:
        self.run_.collector.kill()
        time.sleep(self.rng.uniform(0, 5))
        self.run_.collector.start()

    def freeze_collector(self, note: dict[str, Any]) -> None:
        self.run_.collector.signal(signal.SIGSTOP)
        time.sleep(self.rng.uniform(3, 15))
        self.run_.collector.signal(signal.SIGCONT)

    def hold_lock(self, note: dict[str, Any]) -> None:
        with (Path(self.run_.warehouse) / "writer.lock").open("r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            time.sleep(self.rng.uniform(3, 15))

    def hold_catalog(self, note: dict[str, Any]) -> None:
        with contextlib.closing(sqlite3.connect(Path(self.run_.warehouse) / "catalog.sqlite", timeout=30, isolation_level=None)) as catalog:
            catalog.execute("BEGIN EXCLUSIVE")
            time.sleep(self.rng.uniform(2, 10))
            catalog.execute("ROLLBACK")

    def kill_agents(self, note: dict[str, Any]) -> None:
        note["agents"] = len(self.run_.fleet.restart_some(10, self.rng))

    def damage(self, note: dict[str, Any]) -> None:
        """Batches wait only while the collector is away, and in an open segment: the agent's next life seals it."""
        self.run_.collector.kill()
        time.sleep(12)
        fleet = self.run_.fleet
        found = [fleet.damage(number, self.rng) for number in fleet.restart_some(20, self.rng)]
        note["damaged_measurements"] = sum(found)
        self.run_.collector.start()

    def kill_pages(self, note: dict[str, Any]) -> None:
        self.run_.pages.kill()
        self.run_.pages.start()


class Run:
    """One run and its report so far."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.options, self.warehouse = options, str(folder / "kept")
        open_warehouse(self.warehouse, mode="write").close()
        self.collector = Collector(folder, self.warehouse)
        authority = make_certificate(folder / "tls", ["127.0.0.1"], days=90, now=datetime.now(UTC))["ca.pem"]  # not the system's hundreds
        self.fleet = Fleet(
            folder,
            self.collector.url,
            agents=options.agents,
            lines_per_s=self.rate(0.0) * REFERENCE / PACKETS / options.agents,
            sites=[site.id for site in load().pops[: max(options.agents, 21)]],
            batch_max_age_s=5.0,
            ca_file=authority,
            salt=options.seed,
        )
        self.pages = Pages(folder, self.warehouse)
        self.mischief = Mischief(self, options.seed) if options.faults else None
        self.memory: dict[str, list[Sample]] = {"collector": [], "dashboard": []}
        self.minutes: list[dict[str, Any]] = []
        self.began_s = time.monotonic()
        self.ended_s: float | None = None
        self.end: dict[str, Any] = {}
        self._told = (0, 0)

    def rate(self, at_s: float) -> float:
        """Times the reference rate, so many seconds after the start."""
        return 10.0 if at_s < 60 * self.options.surge else self.options.rate

    def go(self) -> None:
        """Run until the time is over or Ctrl-C, then count."""
        try:
            self.collector.start()
            self.fleet.open()
            print(f"{self.options.agents} agents are ready", file=sys.stderr, flush=True)
            self.began_s = time.monotonic()
            self.fleet.go()
            if self.mischief is not None:
                self.mischief.start()
            next_s, minute = self.began_s, 1
            with contextlib.suppress(KeyboardInterrupt):
                while time.monotonic() < self.began_s + 60 * (self.options.surge + self.options.minutes):
                    self.fleet.lines_per_s = self.rate(time.monotonic() - self.began_s) * REFERENCE / PACKETS / self.options.agents
                    next_s += SAMPLE_S
                    time.sleep(max(0.0, next_s - time.monotonic()))
                    self.sample()
                    if time.monotonic() > self.began_s + 15:
                        self.pages.open()
                    if time.monotonic() >= self.began_s + 60 * minute:
                        self.tell()
                        minute += 1
            self.finish()
        finally:
            self.pages.close()
            self.collector.kill()

    def sample(self) -> None:
        """Memory now."""
        at = time.monotonic() - self.began_s
        for name, process in (("collector", self.collector.process), ("dashboard", self.pages.process)):
            if process is not None and (mb := rss_mb(process)) is not None:
                self.memory[name].append(Sample(at, process.pid, mb))

    def tell(self) -> None:
        """A line for the minute that is over; the report so far into its file."""
        clicks, sends = self.pages.clicks_ms[self._told[0] :], list(self.fleet.sends)[self._told[1] :]
        self._told = (self._told[0] + len(clicks), self._told[1] + len(sends))
        statuses = Counter(send.status for send in sends)
        answered = [send.took_s for send in sends if send.status == 200]
        at = time.monotonic() - self.began_s
        row = {
            "minute": len(self.minutes) + 1,
            "rate": self.rate(at - 1),
            "made": sum(self.fleet.made().values()) * PACKETS,
            "spool_mb": round(sum(member.spool.size_bytes for member in self.fleet.members) / 1e6, 1),
            **{f"{name}_mb": spread([one for one in samples if one.at_s > at - 60]) for name, samples in self.memory.items()},
            "batches": {str(status): count for status, count in sorted(statuses.items())},
            "answered_p95_s": p95(answered),
            "clicks": len(clicks),
            "click_p95_ms": p95(clicks),
            "in_trouble": self.fleet.troubled,
            "load": round(os.getloadavg()[0], 1),
        }
        self.minutes.append(row)
        print("  ".join(f"{key} {value}" for key, value in row.items()), file=sys.stderr, flush=True)
        self.write()

    def finish(self) -> None:
        """Stop in order, and count."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.ended_s = time.monotonic()
        print("measuring ends; what waits is sent, then all is counted", file=sys.stderr, flush=True)
        if self.mischief is not None:
            self.mischief.over.set()
            self.mischief.join(400)
        waiting = self.fleet.stop(300)
        drained_s = time.monotonic() - self.ended_s
        self.pages.close()
        try:
            self.collector.stop()
        except subprocess.TimeoutExpired:
            self.end["collector"] = "did not end within a minute of being asked to"
        made, measurements, rows, wrong = self.fleet.made(), 0, 0, []
        with open_warehouse(self.warehouse) as wh, wh.cursor() as cursor:
            for part in range(8):  # so that the distinct ids of fifty million rows fit into memory
                for agent, boot, count, distinct in cursor.execute(
                    "SELECT agent, boot, count(*), count(DISTINCT measurement_id) FROM ping_sample "
                    "WHERE hash(agent) % 8 = $part GROUP BY ALL",
                    {"part": part},
                ).fetchall():
                    rows += count
                    measurements += distinct
                    if distinct > made.get((agent, boot), 0) or count != PACKETS * distinct:
                        wrong.append(f"{agent} {boot}: {made.get((agent, boot))} made, {distinct} stored in {count} rows")
            rejects = dict(cursor.execute("SELECT reason, count(*) FROM reject GROUP BY ALL").fetchall())
            wrong += verify(wh)
        allowed = (self.fleet.dropped + self.fleet.damaged) * PACKETS
        total = sum(made.values()) * PACKETS
        self.end |= {
            "rows_made": total,
            "rows_stored": rows,
            "lost": total - rows,
            "lost_allowed": allowed,
            "duplicated": rows - PACKETS * measurements,
            "rejects": rejects,
            "batches_waiting": waiting,
            "drained_s": round(drained_s, 1),
            "wrong": wrong[:20],
            "tracebacks": self.collector.said().count("Traceback"),
        }
        self.write()

    def report(self) -> dict[str, Any]:
        """What is known so far."""
        seconds = (self.ended_s or time.monotonic()) - self.began_s
        statuses = Counter(send.status for send in list(self.fleet.sends))
        end = self.end
        surge_s = min(seconds, 60 * self.options.surge)
        asked = REFERENCE * (10 * surge_s + self.options.rate * (seconds - surge_s)) / max(seconds, 1e-9)
        is_kept = (
            bool(end) and end["lost"] <= end["lost_allowed"] and not end["duplicated"] and not end["wrong"] and not end["batches_waiting"]
        )
        ours = {
            "agents": self.options.agents,
            "rate": self.options.rate,
            "surge_minutes": min(self.options.surge, round(seconds / 60, 1)),
            "minutes": round(seconds / 60, 1),
            "rows_per_s": round(sum(self.fleet.made().values()) * PACKETS / max(seconds, 1e-9)),
            "asked_rows_per_s": round(asked),
            "is_everything_kept": is_kept if end else None,
            **end,
            "busy_answers": statuses[429],
            "unavailable_answers": statuses[503],
            "unanswered": statuses[0],
            "clicks": len(self.pages.clicks_ms),
            "click_p50_ms": round(statistics.median(self.pages.clicks_ms), 1) if self.pages.clicks_ms else None,
            "click_p95_ms": p95(self.pages.clicks_ms),
            "sessions_broken": dict(self.pages.broke),
            "memory_mb": {
                name: {
                    "first": round(samples[0].mb),
                    "last": round(samples[-1].mb),
                    "median": round(statistics.median(one.mb for one in samples)),
                    "most": round(max(one.mb for one in samples)),
                    **growth(samples),
                }
                for name, samples in self.memory.items()
                if samples
            },
            "by_minute": self.minutes,
            "faults": self.mischief.journal if self.mischief is not None else [],
        }
        return {
            "claim": f"{asked:,.0f} probe packets a second for {ours['minutes']} minutes with the dashboard open: "
            f"nothing lost or doubled beyond what was damaged on purpose: {'not known yet' if not end else 'yes' if is_kept else 'NO'}",
            "ours": ours,
            "others": {},
            "ratio": {},
            "machine": {
                "cpus": os.cpu_count(),
                "load_1min": os.getloadavg()[0],
                "platform": platform.platform(),
                "at": f"{datetime.now(UTC):%F %T}",
            },
        }

    def write(self) -> None:
        """The report so far into its file, whole at every moment."""
        if self.options.out is not None:
            draft = self.options.out.with_suffix(".tmp")
            draft.write_text(json.dumps(self.report(), indent=2) + "\n")
            draft.replace(self.options.out)


def main() -> None:
    """Run and report; exit status 1 when anything is lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=1.0, help="times 2,900 probe packets a second")
    parser.add_argument("--agents", type=int, default=350)
    parser.add_argument("--faults", action="store_true", help="faults at random moments")
    parser.add_argument("--fault-every", type=float, default=30.0, help="seconds from one fault to the next, within a half of that")
    parser.add_argument("--kills-for", type=float, help="minutes in which a fault may kill collector or dashboard; without it all along")
    parser.add_argument("--surge", type=float, default=0.0, help="minutes at ten times the reference rate and without faults before it")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="the report so far, after every minute")
    parser.add_argument("--folder", type=Path, help="where warehouse and spools are made; without it a temporary folder")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--clicker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.clicker is not None:
        click(options.clicker)
    logging.getLogger("isochrone").addHandler(logging.NullHandler())  # what the uplinks say is in their counts
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started with it ignored
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # a report all the same
    with tempfile.TemporaryDirectory(prefix="isochrone-load-", dir=options.folder, ignore_cleanup_errors=True) as folder:
        run = Run(Path(folder), options)
        run.go()
        report = run.report()
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        print(report["claim"])
        for key, value in report["ours"].items():
            if key not in {"by_minute", "faults"}:
                print(f"  {key}: {value}")
    sys.exit(0 if report["ours"]["is_everything_kept"] else 1)


if __name__ == "__main__":
    main()
