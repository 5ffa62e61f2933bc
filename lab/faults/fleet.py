"""Many agents in one process: all of an agent but the probes. Lines go into a real spool, a keeper seals, an uplink sends.

Each agent's count of what it put into its spool is the account that the warehouse is held to. RTTs come from a hash: nothing is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from lab.faults.judge import measurements_in
from probes.client import Answer, CollectorClient
from probes.keeper import Keeper
from probes.segment import SEALED
from probes.spool import Spool
from probes.uplink import Uplink
from records.batch import BatchName, encode_line
from records.errors import CollectorUnreachable
from records.measurement import PingResult, PingSample

__all__ = ["PACKETS", "Fleet", "Send", "line_template"]

T = TypeVar("T")

#: Probe packets of a measurement.
PACKETS = 5


class Send(NamedTuple):
    """One try to send a batch: when it began (monotonic), how long it took, and the answer's status (0: there was none)."""

    at_s: float
    took_s: float
    status: int


class _Client(CollectorClient):
    """A client that notes every try."""

    def __init__(self, url: str, *, ca_file: Path | None, sends: list[Send]) -> None:
        super().__init__(url, ca_file=ca_file)
        self._sends = sends

    async def send(self, name: BatchName, body: bytes, *, clock_set_ns: int | None = None) -> Answer:
        began_s = time.monotonic()
        try:
            answer = await super().send(name, body, clock_set_ns=clock_set_ns)
        except CollectorUnreachable:
            self._sends.append(Send(began_s, time.monotonic() - began_s, 0))
            raise
        self._sends.append(Send(began_s, time.monotonic() - began_s, answer.status))
        return answer


class _Keeper(Keeper):
    """A keeper on threads that the whole fleet shares: 700 threads in one process would measure Python, not us."""

    def __init__(self, spool: Spool, threads: ThreadPoolExecutor, *, max_age_s: float) -> None:
        super().__init__(spool, max_age_s=max_age_s)
        self._shared = threads

    async def on_disk(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._shared, call)


def line_template(agent: str, site: str) -> bytes:
    """A ping round as the agent's own code writes it, to be filled in by ``%``: id, dst, target, start, and each packet's time and RTT.

    Encoding 5,800 lines a second one by one would take a third of a processor, which the collector is to have.
    """
    samples = tuple(
        PingSample(
            sequence=n, outcome="reply", sent_at_ns=7_000_000_010 + n, rtt_ns=7_000_000_020 + n, ts_source="kernel_txrx", sched_lag_ns=9000
        )
        for n in range(PACKETS)
    )
    line = encode_line(
        PingResult(
            id="@id",
            agent=agent,
            src=site,
            dst="@dst",
            medium="internet",
            target="@target",
            engine="fleet/1",
            started_at_ns=7_000_000_000,
            method="icmp",
            timeout_ns=2 * 10**9,
            payload_bytes=56,
            samples=samples,
        )
    )
    line = line.replace(b"%", b"%%").replace(b"@id", b"%(id)b").replace(b"@dst", b"%(dst)b").replace(b"@target", b"%(target)b")
    for n in range(PACKETS):
        line = line.replace(b"%d" % (7_000_000_010 + n), b"%%(s%d)d" % n).replace(b"%d" % (7_000_000_020 + n), b"%%(r%d)d" % n)
    return line.replace(b"7000000000", b"%(at)d")


def fill(template: bytes, *, boot: str, n: int, dst: str, at_ns: int, base_ns: int) -> bytes:
    """The line of measurement `n`."""
    values: dict[bytes, object] = {
        b"id": f"{boot}-{n}".encode(),
        b"dst": dst.encode(),
        b"target": b"192.0.2.7",
        b"at": at_ns,
    }
    for packet in range(PACKETS):
        # As hard to compress as what is measured: the last digits of times and RTTs are noise.
        noise = (n * 5 + packet) * 2654435761 % (1 << 32)
        values[b"s%d" % packet] = at_ns + packet * 20_000_000 + noise % 60_000
        values[b"r%d" % packet] = base_ns + noise // 7 % 400_000
    return template % values


class _Member:
    """One life of an agent."""

    def __init__(self, fleet: Fleet, number: int, life: int) -> None:
        self.fleet, self.number, self.life = fleet, number, life
        self.agent, self.site = fleet.agent_of(number), fleet.sites[number % len(fleet.sites)]
        self.boot = f"{number:06x}{life:02x}{fleet.salt:08x}"
        self.made = 0
        self.template = line_template(self.agent, self.site)
        self.spool = Spool(
            fleet.spool_of(number),
            agent=self.agent,
            boot=self.boot,
            max_bytes=fleet.spool_max_bytes,
            segment_bytes=fleet.segment_bytes,
        )
        self.client = _Client(fleet.url, ca_file=fleet.ca_file, sends=fleet.sends)
        self.keeper = _Keeper(self.spool, fleet.threads, max_age_s=fleet.batch_max_age_s)
        rng = random.Random(fleet.salt * 1000 + number)  # noqa: S311 - spread, not secrets
        self.uplink = Uplink(self.spool, self.client, rng=rng, on_disk=self.keeper.on_disk)
        self.rng = rng
        self.tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        is_offline = lambda: self.uplink.trouble is not None  # noqa: E731
        parts = (self._produce(), self.keeper.run(is_offline=is_offline, sealed=self.uplink.wake), self.uplink.run())
        self.tasks = [asyncio.create_task(part) for part in parts]

    def put(self, count: int, at_ns: int) -> None:
        """Measure `count` times."""
        lines = []
        sites = self.fleet.sites
        for _ in range(count):
            # Every other round goes to one of twenty neighbours, the rest walk through all sites, as on the mesh.
            step = 1 + (self.made // 2) % 20 if self.made % 2 else 1 + (self.made // 2) % (len(sites) - 1)
            dst = sites[(self.number + step) % len(sites)]
            base_ns = 2_000_000 + (self.number * 31 + step * 977) % 250 * 1_000_000
            started_ns = at_ns + self.made * 2246822519 % 1_000_000_000
            lines.append(fill(self.template, boot=self.boot, n=self.made, dst=dst, at_ns=started_ns, base_ns=base_ns))
            self.made += 1
        self.spool.append(lines, measurements=count, now_ns=time.monotonic_ns())

    async def _produce(self) -> None:
        due = self.rng.random()
        next_s = time.monotonic() + self.rng.random() * max(1.0, 1 / self.fleet.lines_per_s)
        while True:
            rate = self.fleet.lines_per_s
            tick_s = max(1.0, 1 / rate)
            await asyncio.sleep(max(0.0, next_s - time.monotonic()))
            # As an agent: what is late is skipped, never caught up.
            next_s = max(next_s + tick_s, time.monotonic())
            due += rate * tick_s
            count, due = int(due), due % 1
            if count and self.fleet.is_measuring:
                self.put(count, time.time_ns())

    async def end(self) -> None:
        """As a kill: what is open stays open."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.client.close()
        self.keeper.close()
        self.spool.close()


class Fleet:
    """Agents on an event loop in a thread of their own.

    folder            of their spools
    lines_per_s       measurements of each agent a second, of PACKETS packets each; may be set while they run
    sites             where they are and what they measure, at least two
    batch_max_age_s, segment_bytes, spool_max_bytes   as in an agent's configuration
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        *,
        agents: int,
        lines_per_s: float,
        sites: Sequence[str] = (),
        prefix: str = "",
        batch_max_age_s: float = 1.0,
        segment_bytes: int = 1_000_000,
        spool_max_bytes: int = 256_000_000,
        ca_file: Path | None = None,
        salt: int = 1,
    ) -> None:
        self.folder, self.url, self.agents, self.lines_per_s, self.ca_file = folder, url, agents, lines_per_s, ca_file
        self.sites = list(sites) or [f"p{n:03d}" for n in range(max(agents, 21))]
        self.prefix, self.salt = prefix, salt
        self.batch_max_age_s, self.segment_bytes, self.spool_max_bytes = batch_max_age_s, segment_bytes, spool_max_bytes
        self.sends: list[Send] = []
        self.threads = ThreadPoolExecutor(8, thread_name_prefix="fleet-disk")
        self.is_measuring = True
        self.members: list[_Member] = []
        self._gone: list[_Member] = []
        #: Measurements of earlier lives that were lost as they are allowed to be: damaged on purpose.
        self.damaged = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fleet", daemon=True)

    # -- who there is -----------------------------------------------------------------------------------------------

    def agent_of(self, number: int) -> str:
        """An agent's id."""
        return f"{self.prefix}{self.sites[number % len(self.sites)]}-1".replace(":", "-")

    def spool_of(self, number: int) -> Path:
        """An agent's spool."""
        return self.folder / f"{self.prefix}spool-{number}"

    @property
    def spools(self) -> list[Path]:
        """All spools."""
        return [self.spool_of(number) for number in range(self.agents)]

    def made(self) -> Counter[tuple[str, str]]:
        """Measurements put into a spool, by (agent, boot)."""
        return Counter({(one.agent, one.boot): one.made for one in (*self._gone, *self.members)})

    @property
    def dropped(self) -> int:
        """Measurements that the spools dropped by their bound and counted."""
        return sum(one.spool.dropped_measurements for one in (*self._gone, *self.members))

    @property
    def not_stored(self) -> int:
        """Measurements that were quarantined or rejected, and counted."""
        return sum(one.uplink.quarantined_measurements + one.uplink.rejected_measurements for one in (*self._gone, *self.members))

    @property
    def troubled(self) -> int:
        """Agents whose last try failed."""
        return sum(one.uplink.trouble is not None for one in self.members)

    # -- life -------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the spools; nobody measures or sends yet."""
        self._thread.start()
        self._call(self._open())

    def start(self) -> None:
        """Open the spools, measure and send."""
        self.open()
        self.go()

    def go(self) -> None:
        """Measure and send."""
        self._call(self._go())

    def restart(self, number: int) -> None:
        """Kill one agent and start it again in the same folder."""
        self._call(self._restart(number))

    def restart_some(self, one_in: int, rng: random.Random) -> list[int]:
        """Kill and start again one agent in so many, by chance; which."""
        chosen = rng.sample(range(self.agents), max(1, self.agents // one_in))
        for number in chosen:
            self.restart(number)
        return chosen

    def damage(self, number: int, rng: random.Random) -> int:
        """Flip one byte of a sealed segment that waits; how many measurements it holds (0: none waits)."""
        waiting = [path for path in self.spool_of(number).iterdir() if SEALED.fullmatch(path.name)]
        if len(waiting) < 2:
            return 0
        victim = rng.choice(sorted(waiting)[1:])  # the first may be on its way
        try:
            body = bytearray(victim.read_bytes())
            body[len(body) // 2] ^= 0x55
            with victim.open("r+b") as file:
                file.write(body)
        except OSError:
            return 0
        count = measurements_in(victim)
        self.damaged += count
        return count

    def stop(self, timeout_s: float = 120.0) -> int:
        """Measure no more, send what waits; batches that still wait at the end of the time."""
        self.is_measuring = False
        try:
            return self._call(self._stop(timeout_s), timeout_s + 60)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self.threads.shutdown(wait=False, cancel_futures=True)

    def _call(self, what: object, timeout_s: float = 120.0) -> int:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(timeout_s)  # type: ignore[arg-type]

    async def _open(self) -> None:
        for number in range(self.agents):
            self.members.append(_Member(self, number, 0))
            await asyncio.sleep(0)

    async def _go(self) -> None:
        for one in self.members:
            one.start()

    async def _restart(self, number: int) -> None:
        before = self.members[number]
        await before.end()
        self._gone.append(before)
        self.members[number] = _Member(self, number, before.life + 1)
        self.members[number].start()

    async def _stop(self, timeout_s: float) -> int:
        until = time.monotonic() + timeout_s
        for one in self.members:
            for task in one.tasks[:2]:  # no new rounds; the keeper ends, and the last segment is sealed here
                task.cancel()
            await asyncio.gather(*one.tasks[:2], return_exceptions=True)
        for one in self.members:
            with contextlib.suppress(OSError):
                await one.keeper.on_disk(one.spool.seal)
            one.uplink.wake()
        while (waiting := sum(one.spool.waiting for one in self.members)) and time.monotonic() < until:  # noqa: ASYNC110  of many
            await asyncio.sleep(0.05)
        for one in self.members:
            await one.end()
        return waiting
