"""Exactly once, whatever happens: five agents send; what they were answered for is in the warehouse once, whole, and nothing else is."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from collector_process import Process, running, start
from warehouse_builders import NOW, content, ping, post

from probes.client import CollectorClient
from probes.spool import Spool
from probes.uplink import Uplink
from records.batch import encode_line
from warehouse import maintain, open_warehouse

#: Seconds pass; on a machine that is busy with other work it may be minutes.
pytestmark = pytest.mark.timeout(500)

FAST = '{"commit_interval_s": 0.05}'
AGENTS = 5
ROUNDS, PACKETS = 4, 3


@dataclass(slots=True)
class Sent:
    """What one agent was answered 200 for: batches, packets (measurement id, sequence), and lines it spoiled on purpose."""

    batches: set[tuple[str, int]] = field(default_factory=set)
    packets: set[tuple[str, int]] = field(default_factory=set)
    spoilt: int = 0
    statuses: Counter[int] = field(default_factory=Counter)


class Agent(threading.Thread):
    """Sends batch after batch until told to stop; one that is not answered 200 is sent again, the same, until it is."""

    def __init__(self, number: int, client: httpx.Client, *, repeats: bool = False) -> None:
        super().__init__(daemon=True)
        self.agent, self.client, self.repeats = f"agent-{number}", client, repeats
        self.sent = Sent()
        self.over = threading.Event()
        self.failed: str | None = None

    def run(self) -> None:
        sequence = 0
        while not self.over.is_set() and self.failed is None:
            self._one(sequence)
            sequence += 1

    def _one(self, sequence: int) -> None:
        ids = [f"{self.agent}-{sequence * ROUNDS + n}" for n in range(ROUNDS)]
        lines = [ping(n, [1000 + n, None, 2000], id=one, agent=self.agent, at=NOW) for n, one in enumerate(ids)]
        parts = post(lines, agent=self.agent, boot="b0", sequence=sequence)
        is_spoilt = sequence % 5 == 1
        if is_spoilt:
            parts["content"] = gzip.compress(content(lines) + b'{"v":1,"type":"ping","id":\n')
        expected = {"stored": ROUNDS, "rejected": int(is_spoilt)}
        answer = self._answered(parts)
        said = {key: answer.get(key) for key in expected}
        if self.repeats and sequence % 3 == 0 and said == expected:
            # A repeat is answered the same, and says that it is one.
            again = self._answered(parts)
            if again != {**expected, "already": True}:
                self.failed = f"batch {sequence} again: {again}"
        if said != expected:
            self.failed = f"batch {sequence}: {answer}"
            return
        self.sent.batches.add((self.agent, sequence))
        self.sent.packets |= {(one, n) for one in ids for n in range(PACKETS)}
        self.sent.spoilt += is_spoilt

    def _answered(self, parts: dict[str, object]) -> dict[str, object]:
        until = time.monotonic() + 200
        while time.monotonic() < until:
            try:
                answer = self.client.post(**parts)  # type: ignore[arg-type]
            except httpx.TransportError:
                time.sleep(0.02)  # nobody listens, or the connection was cut: it comes back
                continue
            self.sent.statuses[answer.status_code] += 1
            if answer.status_code == 200:
                said: dict[str, object] = answer.json()
                return said
            if answer.status_code not in {429, 503}:
                return {"status": answer.status_code, "text": answer.text}
            time.sleep(0.05)
        return {"status": "none in 200 s"}


def _client(path: Path) -> httpx.Client:
    """One that makes a connection for each request."""
    transport = httpx.HTTPTransport(uds=str(path), verify=False, limits=httpx.Limits(max_keepalive_connections=0))
    return httpx.Client(transport=transport, base_url="http://collector", timeout=60)


def _end(agents: list[Agent]) -> list[Sent]:
    for agent in agents:
        agent.over.set()
    for agent in agents:
        agent.join(210)
    assert [agent.failed for agent in agents if agent.failed is not None] == []
    assert not any(agent.is_alive() for agent in agents)
    for agent in agents:
        agent.client.close()
    return [agent.sent for agent in agents]


def _wait_for(agents: list[Agent], batches: int) -> None:
    """Until each agent has been answered for so many batches."""
    until = time.monotonic() + 200
    while min(len(agent.sent.batches) for agent in agents) < batches:
        assert time.monotonic() < until, [(agent.agent, agent.failed, agent.sent.statuses) for agent in agents]
        assert all(agent.failed is None for agent in agents), [agent.failed for agent in agents]
        time.sleep(0.02)


def _hold_to_account(place: Path, sent: list[Sent]) -> None:
    """The warehouse has what was sent, once, every reject explained; the books agree, and no file is left over after a clean-up."""
    with open_warehouse(place, mode="write") as wh:
        with wh.cursor() as cursor:
            packets = cursor.execute("SELECT measurement_id, sequence FROM valid_ping").fetchall()
            stored = cursor.execute("SELECT count(*) FROM ping_sample").fetchone()
            batches = cursor.execute("SELECT agent, sequence FROM batch").fetchall()
            rejects = cursor.execute("SELECT reason, count(*), count(DISTINCT (agent, batch_sequence)) FROM reject GROUP BY ALL").fetchall()
        expected = set().union(*(one.packets for one in sent))
        assert len(packets) == len(expected)
        assert set(packets) == expected
        assert stored == (len(expected),)
        assert sorted(batches) == sorted(set().union(*(one.batches for one in sent)))
        spoilt = sum(one.spoilt for one in sent)
        assert rejects == ([("not_json", spoilt, spoilt)] if spoilt else [])
        assert maintain.verify(wh) == []
        for _ in maintain.clean_steps(wh, snapshot_days=None):
            pass
        with wh.cursor() as cursor:
            known = cursor.execute(
                "SELECT path FROM __ducklake_metadata_wh.ducklake_data_file "
                "UNION ALL SELECT path FROM __ducklake_metadata_wh.ducklake_delete_file"
            ).fetchall()
        on_disk = {path.name for path in (place / "data").rglob("*.parquet")}
        assert on_disk == {Path(path).name for (path,) in known}
        assert maintain.verify(wh) == []


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads: what is left over may go at once."""
    monkeypatch.setattr(maintain, "GRACE", "0 seconds")


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_killed_again_and_again(tmp_path: Path, empty_warehouse: Path, kills: int) -> None:
    """SIGKILL at random moments while five agents send: before, during and after commits."""
    place, moments = tmp_path / "kept", random.Random(kills)
    shutil.copytree(empty_warehouse, place)
    collector = start(place, tmp_path / "c.sock", FAST)
    agents = [Agent(n, _client(collector.socket)) for n in range(AGENTS)]
    try:
        for agent in agents:
            agent.start()
        for number in range(kills):
            if number % 4 == 3:  # on a busy machine no batch would ever be stored in half a second
                _wait_for(agents, 1 + min(len(agent.sent.batches) for agent in agents))
            time.sleep(moments.uniform(0.0, 0.5))  # the moment is the matter of this test
            collector.kill()
            collector = start(place, tmp_path / "c.sock", FAST)
        _wait_for(agents, 1 + max(len(agent.sent.batches) for agent in agents))
        sent = _end(agents)
    finally:
        collector.kill()
    _hold_to_account(place, sent)


def _small_disk(place: Path) -> list[str]:
    """A command that gives the collector a disk of 8 MB at `place`, in a mount namespace of its own."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", 'mount -t tmpfs -o size=8m none "$0" && exec "$@"', str(place)]


def test_a_full_disk(tmp_path: Path) -> None:
    """With no byte left batches are answered 503 and nothing of them is kept; with room again the same batches are stored."""
    place = tmp_path / "disk"
    place.mkdir()
    command = _small_disk(place)
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here (it needs root)")
    collector = start(place / "kept", tmp_path / "c.sock", FAST, command)
    try:
        disk = Path(f"/proc/{collector.process.pid}/root{place}")
        agents = [Agent(n, _client(collector.socket)) for n in range(AGENTS)]
        for agent in agents:
            agent.start()
        _wait_for(agents, 2)
        for size in (1 << 20, 4096):
            with contextlib.suppress(OSError), (disk / "filler").open("ab", buffering=0) as filler:
                while True:
                    filler.write(bytes(size))
        until = time.monotonic() + 200
        while not all(agent.sent.statuses[503] for agent in agents):
            assert time.monotonic() < until, [agent.sent.statuses for agent in agents]
            time.sleep(0.02)
        with collector.client() as client:
            assert client.get("/healthz").status_code == 200
        (disk / "filler").unlink()
        _wait_for(agents, 2 + max(len(agent.sent.batches) for agent in agents))
        sent = _end(agents)
        collector.process.poll()
        assert collector.process.returncode is None
        # Its disk goes with it: the folder is taken out first, from under a collector that has nothing to do.
        shutil.copytree(disk / "kept", tmp_path / "kept")
    finally:
        collector.kill()
    _hold_to_account(tmp_path / "kept", sent)


class Network:
    """Carries connections to a collector's socket and cuts most of them: in the request, before the answer, or in it."""

    def __init__(self, path: Path, target: Path, rng: random.Random) -> None:
        self.path, self.target, self.rng = path, target, rng
        self.cuts: Counter[str] = Counter()
        self.is_whole = False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Carry nothing any more."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                fate = "none" if self.is_whole else self.rng.choice(("request", "answer", "late", "none"))
                threading.Thread(target=self._carry, args=(near, fate, self.rng.randrange(20, 500)), daemon=True).start()

    def _carry(self, near: socket.socket, fate: str, after: int) -> None:
        with near, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as far:
            near.settimeout(60)
            far.settimeout(60)
            with contextlib.suppress(OSError):
                far.connect(str(self.target))
                if fate == "request":
                    far.sendall(near.recv(after))
                    self.cuts[fate] += 1
                    return
                back = threading.Thread(target=self._back, args=(far, near, fate), daemon=True)
                back.start()
                while data := near.recv(65536):
                    far.sendall(data)
                far.shutdown(socket.SHUT_WR)
                back.join(60)

    def _back(self, far: socket.socket, near: socket.socket, fate: str) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(65536):
                if fate != "none":
                    # The batch is stored by now; its agent hears nothing, or half of it.
                    if fate == "late":
                        near.sendall(data[: len(data) // 2])
                    self.cuts[fate] += 1
                    near.shutdown(socket.SHUT_RDWR)
                    return
                near.sendall(data)
            near.shutdown(socket.SHUT_RDWR)


def test_a_network_that_cuts_connections(tmp_path: Path, empty_warehouse: Path) -> None:
    """Requests that end half way, answers that never come, and batches that are sent again although they were answered."""
    place = tmp_path / "kept"
    shutil.copytree(empty_warehouse, place)
    with running(place, tmp_path / "c.sock", FAST):
        network = Network(tmp_path / "n.sock", tmp_path / "c.sock", random.Random(1))

        agents = [Agent(n, _client(network.path), repeats=True) for n in range(AGENTS)]
        for agent in agents:
            agent.start()
        _wait_for(agents, 4)
        network.is_whole = True
        sent = _end(agents)
        network.close()
    assert min(network.cuts[fate] for fate in ("request", "answer", "late")) >= 2
    _hold_to_account(place, sent)


def test_agents_that_start_again_with_a_full_spool(tmp_path: Path, empty_warehouse: Path) -> None:
    """Two lives without a collector fill each agent's spool over its bound; the third delivers what was not dropped, and each once."""
    place = tmp_path / "kept"
    shutil.copytree(empty_warehouse, place)
    spools: list[Spool] = []
    made = dropped = 0
    for agent in range(AGENTS):
        for life in range(3):
            boot = f"{agent:x}{life:x}" * 8
            spool = Spool(tmp_path / f"spool-{agent}", agent=f"agent-{agent}", boot=boot, max_bytes=40_000, segment_bytes=10_000)
            for n in range(150 if life < 2 else 10):
                line = encode_line(ping(n, [1000, 2000], id=f"{boot}-{n}", agent=f"agent-{agent}", at=NOW))
                spool.append([line], measurements=1, now_ns=0)
                made += 1
            spool.seal()
            dropped += spool.dropped_measurements
            if life < 2:
                spool.close()
        spools.append(spool)
    assert dropped > 0
    with running(place, tmp_path / "c.sock", FAST) as collector:
        asyncio.run(_deliver(spools, collector))
    with open_warehouse(place) as wh, wh.cursor() as cursor:
        counted = cursor.execute(
            "SELECT count(*), count(DISTINCT measurement_id), count(*) FILTER (is_duplicate_id) FROM ping_sample"
        ).fetchone()
        rejected = cursor.execute("SELECT count(*) FROM reject").fetchone()
        assert maintain.verify(wh) == []
    assert counted == (2 * (made - dropped), made - dropped, 0)
    assert rejected == (0,)


async def _deliver(spools: list[Spool], collector: Process) -> None:
    clients = [CollectorClient(f"http+unix://{collector.socket}") for _ in spools]
    uplinks = [Uplink(spool, client, rng=random.Random(1)) for spool, client in zip(spools, clients, strict=True)]
    try:
        async with asyncio.timeout(200):
            for uplink, spool in zip(uplinks, spools, strict=True):
                while spool.waiting:
                    await uplink.drain()
    finally:
        for spool, client in zip(spools, clients, strict=True):
            await client.close()
            spool.close()
