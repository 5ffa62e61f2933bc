"""What a scenario stands on: a folder, a collector over a warehouse, agents and a fleet; all of it ended when the scenario is over."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.faults.agent import Agent, Reflector
from lab.faults.collector import ROOT, Collector
from lab.faults.fleet import PACKETS, Fleet
from lab.faults.judge import Outcome, Watch, read_books
from records.errors import NotPermitted

__all__ = ["SmallDisk", "Stage", "small_disk", "stage"]


class SmallDisk:
    """A file system of its own size in a mount namespace of its own: only who is started by `prefix` sees it at `path`."""

    def __init__(self, path: Path, process: subprocess.Popen[str]) -> None:
        self.path = path
        pid = process.pid
        self.prefix = ("nsenter", f"--mount=/proc/{pid}/ns/mnt", f"--wd={ROOT}")
        #: The same folder as everyone may reach it.
        self.outside = Path(f"/proc/{pid}/root{path}")

    def fill(self) -> None:
        """Not one byte is left."""
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError), (self.outside / "filler").open("ab", buffering=0) as filler:
                while True:
                    filler.write(bytes(size))

    def free(self) -> None:
        """There is room again."""
        (self.outside / "filler").unlink()


@contextlib.contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[SmallDisk]:
    """A tmpfs at `path`, for whoever is started by its prefix. Raises NotPermitted where nothing can be mounted."""
    path.mkdir()
    command = 'mount -t tmpfs -o size="$1"m none "$0" && echo mounted && exec cat'
    process = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", command, str(path), str(megabytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "mounted\n":
            raise NotPermitted("no file system can be mounted here: that takes root")
        yield SmallDisk(path, process)
    finally:
        process.kill()
        process.communicate()


class Stage:
    """One scenario's folder, processes and accounts.

    is_short  the scenario for a test: less of everything, the same judgement
    """

    def __init__(self, folder: Path, stack: contextlib.ExitStack, *, is_short: bool, rng: random.Random) -> None:
        self.folder, self.is_short, self.rng = folder, is_short, rng
        self.stack = stack
        self.warehouse = str(folder / "kept")
        self.reflector: Reflector | None = None
        self.agents: list[Agent] = []
        self.fleets: list[Fleet] = []
        self._collectors: list[Collector] = []

    def pick(self, full: float, short: float) -> float:
        """One number for the report, another for a test."""
        return short if self.is_short else full

    def collector(self, **options: Any) -> Collector:
        """A collector over the warehouse; not started."""
        one = Collector(self.folder, self.warehouse, **options)
        self._collectors.append(one)
        self.stack.callback(one.kill)
        return one

    def agent(self, url: str, *, targets: int = 4, **options: Any) -> Agent:
        """A real agent that pings a reflector of its own; not started."""
        if self.reflector is None:
            self.reflector = Reflector(targets)
            self.stack.callback(self.reflector.close)
        one = Agent(self.folder / "agent", url, self.reflector, **options)
        self.agents.append(one)
        self.stack.callback(one.kill)
        return one

    def fleet(self, url: str, **options: Any) -> Fleet:
        """Many agents without probes; not started."""
        one = Fleet(self.folder, url, **options)
        self.fleets.append(one)
        return one

    def until(self, what: Callable[[], object], message: str, *, timeout_s: float = 90.0) -> float:
        """Wait until something is so; the seconds it took. Raises AssertionError."""
        began = time.monotonic()
        while not what():
            if time.monotonic() - began > timeout_s:
                raise AssertionError(f"{message}: not within {timeout_s:.0f} s")
            time.sleep(0.05)
        return time.monotonic() - began

    def stored(self, collector: Collector, packets: int) -> None:
        """Until the collector has stored so many packets since its start."""
        self.until(lambda: (collector.rows() or 0) >= packets, f"{packets} packets are stored")

    def watch(self, collector: Collector) -> Watch:
        """From now on the fault is over."""
        return Watch(collector, [*(agent.spool for agent in self.agents), *(spool for fleet in self.fleets for spool in fleet.spools)])

    def settle(self) -> list[str]:
        """End agents, fleets and collectors in order; what is not as it should be."""
        wrong = []
        for agent in self.agents:
            agent.stop()
            if "Traceback" in agent.said():
                wrong.append(f"an agent had an exception: {agent.said()[-800:]}")
        for fleet in self.fleets:
            wrong += [f"{waiting} batches still wait" for waiting in [fleet.stop()] if waiting]
        for collector in self._collectors:
            collector.stop()
            if "Traceback" in collector.said():
                wrong.append(f"the collector had an exception: {collector.said()[-800:]}")
        return wrong

    def judge(
        self,
        times: tuple[float | None, float | None],
        *,
        allowed: int = 0,
        bound: str = "nothing",
        refused: str | None = None,
        notes: Sequence[str] = (),
        figures: Mapping[str, float] | None = None,
        warehouse: str | None = None,
        made: int | None = None,
    ) -> Outcome:
        """End everything and hold it to account.

        times    what `Watch.wait` said
        allowed  packets that may be lost, by `bound`
        refused  reason for which lines may be rejected: their packets may be lost too, for they are kept, with that reason
        made     packets measured, where neither a reflector nor a fleet has counted them
        """
        wrong = self.settle()
        books = read_books(warehouse or self.warehouse)
        total = made or 0
        if self.reflector is not None:
            total += self.reflector.packets
        for fleet in self.fleets:
            for name, count in fleet.made().items():
                total += count * PACKETS
                if books.measurements.get(name, 0) > count:
                    wrong.append(f"{name} measured {count} times and {books.measurements[name]} measurements are stored")
        if refused is not None:
            allowed += PACKETS * books.rejected_rounds.get(refused, 0)
        return Outcome(
            made=total,
            stored=books.stored,
            lost=total - books.stored,
            allowed=allowed,
            bound=bound,
            twice=books.twice,
            rejects=books.rejects,
            faults=[*wrong, *books.faults],
            first_s=times[0],
            right_s=times[1],
            notes=notes,
            figures=figures or {},
        )


@contextlib.contextmanager
def stage(*, is_short: bool = False, seed: int = 1) -> Iterator[Stage]:
    """A stage for one scenario, cleared at the end."""
    with tempfile.TemporaryDirectory(prefix="isf-") as folder, contextlib.ExitStack() as stack:
        Path(folder).chmod(0o755)
        os.environ.setdefault("ISOCHRONE_DUCKDB_THREADS", "1")
        yield Stage(Path(folder), stack, is_short=is_short, rng=random.Random(seed))  # noqa: S311 - which moment, no secret
