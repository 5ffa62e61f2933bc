"""The same warehouse with its catalog in PostgreSQL (Debian's) and its files in S3 (rclone's server), both real and on this machine."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest
from click.testing import CliRunner
from collector_process import ROOT, Process, start
from warehouse_builders import NOW, batch, ping, post, put, report, request, trace, transfer, visit

from app.cli import root
from lab.faults.servers import S3, Postgres, postgres, s3
from records.errors import NotPermitted, OutsideError, ToolMissing, UserError, WarehouseMissing
from warehouse import Warehouse, open_warehouse, queries, workbench
from warehouse import migrate as migrations
from warehouse.backup import backup
from warehouse.copy import copy_warehouse
from warehouse.maintain import clean_steps, status, tidy_steps, verify
from warehouse.opening import python_lines, shell_lines
from warehouse.place import place
from warehouse.restore import restore
from warehouse.retention import expire_steps, kept, set_kept
from warehouse.rollback import rollback
from warehouse.rollup import rollup
from warehouse.statements import folder
from warehouse.store import Outcome, store

pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("all_cores")]

_NUMBERS = itertools.count()


@dataclass(frozen=True, slots=True)
class Servers:
    """Both servers."""

    postgres: Postgres
    s3: S3

    def database(self) -> tuple[str, str]:
        """A new empty database as deploy/postgres.sql makes it: (its name, its address with a data path)."""
        name = f"wh{next(_NUMBERS)}"
        self.postgres.run((ROOT / "deploy" / "postgres.sql").read_text(), database="postgres", variables=("-v", f"database={name}"))
        return name, self.postgres.address(name, f"s3://isochrone/{name}")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """PostgreSQL and S3 for the module, with S3's keys in the environment."""
    with contextlib.ExitStack() as stack:
        try:
            catalog, storage = stack.enter_context(postgres()), stack.enter_context(s3(tmp_path_factory.mktemp("s3") / "buckets"))
        except ToolMissing as missing:
            pytest.skip(str(missing))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in storage.environ.items():
            patch.setenv(name, value)
        yield Servers(catalog, storage)


READER = """
import json, sys
from warehouse import open_warehouse, queries
from warehouse_builders import NOW
seen = []
with open_warehouse(sys.argv[1]) as wh:
    print("ready", flush=True)
    import threading
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    while not stop.wait(1):
        links = queries.link_estimates(wh, now=NOW)
        seen.append(sum(link.sample_count or 0 for link in links))
    links = queries.link_estimates(wh, now=NOW)
    seen.append(sum(link.sample_count or 0 for link in links))
print(json.dumps(seen))
"""


class Sender(threading.Thread):
    """An agent that sends its batches to whichever collector answers, each until it is acknowledged, and every third to both at once."""

    def __init__(self, number: int, collectors: list[Process], batches: int) -> None:
        super().__init__()
        self.agent, self.collectors, self.batches = f"a{number}", collectors, batches
        self.half_way, self.sent, self.repeats = threading.Event(), 0, 0

    def run(self) -> None:
        """Send them."""
        clients = [collector.client() for collector in self.collectors]
        for sequence in range(self.batches):
            lines = [ping(self.number(sequence, n), [1000, 2000], agent=self.agent, src=self.agent) for n in range(5)]
            content = post(lines, agent=self.agent, sequence=sequence)
            first = sequence % 2
            if sequence % 3 == 0:
                twin = threading.Thread(target=self.deliver, args=(clients[1 - first], content))
                twin.start()
                acknowledged = self.deliver(clients[first], content)
                twin.join()
            else:
                acknowledged = self.deliver(clients[first], content)
            while not acknowledged:
                first, self.repeats = 1 - first, self.repeats + 1
                acknowledged = self.deliver(clients[first], content)
            self.sent += 1
            if self.sent == self.batches // 3:
                self.half_way.set()

    def number(self, sequence: int, n: int) -> int:
        """A number that no other measurement of any agent has."""
        return int(self.agent[1:]) * 1_000_000 + sequence * 100 + n

    def deliver(self, client: httpx.Client, content: dict[str, Any]) -> bool:
        """Send once; whether it was acknowledged."""
        try:
            return client.post(**content).status_code == 200
        except httpx.HTTPError:
            return False


@pytest.mark.timeout(500)
def test_two_collectors_three_readers_and_one_killed(servers: Servers, tmp_path: Path) -> None:
    """Nothing that was acknowledged is lost or doubled, and no reader fails, while one of two collectors is killed without a word."""
    _, address = servers.database()
    open_warehouse(address, mode="write").close()
    options = json.dumps({"commit_interval_s": 0.05})
    collectors = [start(address, tmp_path / f"{name}.sock", options) for name in "ab"]
    readers: list[subprocess.Popen[str]] = []
    agents = [Sender(number, collectors, batches=8) for number in range(3)]
    try:
        readers += [_reader(address) for _ in range(3)]
        for agent in agents:
            agent.start()
        for agent in agents:
            assert agent.half_way.wait(120)
        collectors[0].kill()
        for agent in agents:
            agent.join(240)
            assert not agent.is_alive()
        seen = [json.loads(reader.communicate("", timeout=60)[0].split("\n")[-2]) for reader in readers]
        assert [reader.returncode for reader in readers] == [0, 0, 0]
        errors = collectors[1].stop()
    finally:
        for process in (*(collector.process for collector in collectors), *readers):
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.communicate()
    assert "Traceback" not in errors, errors
    assert sum(agent.repeats for agent in agents) > 0, "no batch was under way when the collector was killed: the test shows nothing"
    with open_warehouse(address) as wh:
        assert verify(wh) == []
        with wh.cursor() as cursor:
            stored = cursor.execute(
                "SELECT count(*), count(DISTINCT (measurement_id, sequence)), sum(is_duplicate_id::INT) FROM ping_sample"
            ).fetchone()
            batches = cursor.execute("SELECT count(*), count(DISTINCT (agent, boot, sequence)) FROM batch").fetchone()
    packets = 3 * 8 * 5 * 2
    assert stored == (packets, packets, 0)
    assert batches == (24, 24)
    for counts in seen:
        assert counts == sorted(counts)
        assert counts[-1] == packets


def _reader(address: str) -> subprocess.Popen[str]:
    environ = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'warehouse'}"}
    process = subprocess.Popen(
        [sys.executable, "-c", READER, address], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line == "ready\n":
            return process
    raise AssertionError("a reader ended before it was ready")


@pytest.fixture(scope="module")
def filled(servers: Servers) -> Iterator[tuple[str, Warehouse]]:
    """A database with a few measurements of each kind, in several files: (its name, the warehouse open for writing)."""
    name, address = servers.database()
    with open_warehouse(address, mode="write") as wh:
        for n in range(3):
            at = NOW - timedelta(minutes=10 + n)
            put(wh, ping(10 * n, [1_000_000 * (n + 1), 2_000_000], at), trace(10 * n + 1, at), visit(10 * n + 2, 3_000_000, at))
            put(wh, transfer(10 * n + 3, 10**9, at), request(10 * n + 4, 10**8, (10**7,), at), report(at))
        yield name, wh


@pytest.mark.slow
def test_the_same_code_sees_to_it(servers: Servers, filled: tuple[str, Warehouse]) -> None:
    """Roll-ups, compaction, clean-up, verification, SQL within its fences and the answers are those of an embedded warehouse."""
    name, wh = filled
    # DuckLake asks for statistics by it; the division fails where there is none.
    servers.postgres.run("SELECT 1 / count(*) FROM pg_indexes WHERE indexname = 'isochrone_file_column_stats'", database=name)
    with open_warehouse(servers.postgres.address(name, None, user="isochrone_reader")) as reader:
        before = queries.link_estimates(reader, now=NOW)
        assert [(link.sample_count, link.rtt_min_ns, link.rtt_p50_ns) for link in before] == [(6, 1_000_000, 2_000_000)]
        assert rollup(wh, now=NOW + timedelta(hours=2))["rollup_minute"] == 9  # three kinds, three minutes
        assert sum(rollup(wh, now=NOW + timedelta(hours=2)).values()) == 0
        (rolled,) = queries.link_estimates(reader, now=NOW, grain="hour")
        assert (rolled.grain, rolled.sample_count, rolled.rtt_min_ns) == ("hour", 6, 1_000_000)
        steps = list(tidy_steps(wh, least=2))
        assert "merge ping_sample" in steps
        assert [step.split()[0] for step in clean_steps(wh, snapshot_days=1)] == ["snapshots", "files", "orphans"]
        assert verify(wh) == verify(reader) == []
        assert queries.link_estimates(reader, now=NOW) == before
        found = status(reader)
        assert found.location == reader.address
        assert {t.name: t.file_count for t in found.tables}["ping_sample"] == 1
        assert found.catalog_bytes > 0
        assert found.data_bytes > 0
        assert workbench.run(reader, "FROM links").table.num_rows == 1
        for query in (
            "FROM __ducklake_metadata_wh.pg_catalog.pg_roles",
            'FROM "__DUCKLAKE_METADATA_WH".public.ducklake_snapshot',
            "FROM wh_catalog.public.ducklake_metadata",
            "FROM postgres_query('wh_catalog', 'SELECT 1')",
            "FROM 's3://isochrone/other.parquet'",
            "SELECT current_setting('s3_secret_access_key')",
        ):
            with pytest.raises(UserError):
                workbench.run(reader, query)
        with pytest.raises(NotPermitted, match="may only read"):
            open_warehouse(reader.address, mode="write")


@pytest.mark.slow
def test_duckdb_alone_opens_it_and_a_file_is_exported(filled: tuple[str, Warehouse], tmp_path: Path) -> None:
    """The three lines that `warehouse status` prints work in the stock shell and in Python; `isochrone export` takes a copy."""
    _, wh = filled
    lines = shell_lines(wh.place, wh.data_path)
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in "".join(lines)
    shell = Path(sys.executable).with_name("duckdb")
    sql = "\n".join([*lines, "SELECT count(*) AS n FROM ping_sample;"])
    done = subprocess.run([shell, "-noheader", "-list", "-no-init"], input=sql, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split()[-1] == "6", done
    script = "\n".join([*python_lines(wh.place, wh.data_path), "print(con.execute('SELECT count(*) FROM ping_sample').fetchall())"])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[(6,)]"
    file = tmp_path / "out.duckdb"
    result = CliRunner().invoke(root, ["export", str(file), "--warehouse", wh.address], standalone_mode=False)
    assert result.exception is None, result.output
    with duckdb.connect(str(file), read_only=True) as copy:
        assert copy.execute("SELECT count(*) FROM ping_sample").fetchone() == (6,)


def test_what_is_over_is_removed(filled: tuple[str, Warehouse]) -> None:
    """Retention works on PostgreSQL as it does embedded: raw rows go once they are in the roll-ups, and not before."""
    _, wh = filled
    put(wh, ping(70, [1_000_000, 2_000_000], dst="ams"))
    later = NOW + timedelta(days=40)
    waits = {one.table: one.waits for one in expire_steps(wh, now=later, dry_run=True)}
    assert waits["ping_sample"] == "not all of it is in the roll-ups yet"
    rollup(wh, now=later)
    gone = {one.table: one.row_count for one in expire_steps(wh, now=later)}
    assert gone["ping_sample"] >= 2
    assert queries.measurement_counts(wh)["ping"] == 0
    found = {link.dst: link for link in queries.link_estimates(wh, now=NOW, window=timedelta(hours=1))}
    assert (found["ams"].grain, found["ams"].sample_count) == ("minute", 2)


def test_mistakes_are_told_apart(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each mistake in an address, a role or the keys has its own sentence, and is found before anything is stored."""
    name, address = servers.database()
    bare = servers.postgres.address(name, None)

    def refused(kind: type[Exception], match: str, where: str, mode: Any = "write") -> None:
        with pytest.raises(kind, match=match):
            open_warehouse(where, mode=mode)

    refused(WarehouseMissing, "no warehouse in the database", address, "read")
    refused(UserError, "needs its data_path", bare)
    refused(UserError, "no such bucket", servers.postgres.address(name, "s3://nowhere/x"))
    refused(UserError, "neither s3://BUCKET", servers.postgres.address(name, "relative/folder"))
    refused(UserError, "no database 'missing'", servers.postgres.address("missing", "s3://isochrone/x"))
    refused(NotPermitted, "PostgreSQL refuses", servers.postgres.address(name, "s3://isochrone/x", user="nobody"))
    with monkeypatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret-of-it")
        refused(NotPermitted, "refuses the keys", address)
        patch.delenv("AWS_SECRET_ACCESS_KEY")
        refused(UserError, "set AWS_ACCESS_KEY_ID", address)
    open_warehouse(address, mode="write").close()
    refused(UserError, "keeps its files at", servers.postgres.address(name, "s3://isochrone/elsewhere"))
    refused(UserError, "keeps its files at", servers.postgres.address(name, "s3://isochrone/elsewhere"), "read")
    open_warehouse(bare).close()


def test_servers_that_go_away_and_come_back(servers: Servers, filled: tuple[str, Warehouse]) -> None:
    """PostgreSQL stopped under an open warehouse: one clear error; back again, the same process stores and reads, nothing lost."""
    name, wh = filled
    bare = servers.postgres.address(name, None)
    with open_warehouse(bare) as reader:
        before = queries.measurement_counts(reader)["ping"]
        waiting = [batch([ping(80, [3])])]
        servers.postgres.stop()
        try:
            with pytest.raises(OutsideError, match="catalog does not answer"):
                open_warehouse(bare)
            with pytest.raises(OutsideError, match="catalog does not answer"):
                store(wh, waiting)
            with pytest.raises(OutsideError, match="catalog does not answer"):
                queries.link_estimates(reader, now=NOW)
            with pytest.raises(OutsideError, match="catalog does not answer"):
                workbench.run(reader, "FROM ping_sample")
            with pytest.raises(OutsideError, match="catalog does not answer"):
                verify(reader)
        finally:
            servers.postgres.start()
        assert store(wh, waiting) == [Outcome.STORED]
        assert store(wh, waiting) == [Outcome.ALREADY]
        assert queries.measurement_counts(reader)["ping"] == before + 1


def test_keys_that_are_refused_are_no_fault_of_the_warehouse(
    servers: Servers, filled: tuple[str, Warehouse], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`isochrone warehouse verify` says that it may not look, and not that files are broken."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret-of-it")
    with pytest.raises(NotPermitted, match="refuses the keys"), open_warehouse(servers.postgres.address(filled[0], None)) as reader:
        verify(reader)


def test_a_half_written_file_is_told(servers: Servers, filled: tuple[str, Warehouse]) -> None:
    """A Parquet file cut short in the bucket gives an error that names it; the other tables are read as before."""
    name, wh = filled
    put(wh, ping(90, [1, 2]), trace(91))
    for file in (servers.s3.folder / "isochrone" / name / "main" / "ping_sample").rglob("*.parquet"):
        file.write_bytes(file.read_bytes()[:-100])
    with open_warehouse(servers.postgres.address(name, None)) as reader:
        with pytest.raises(OutsideError, match="cannot be read"):
            queries.link_estimates(reader, now=NOW, grain="raw")
        assert [fault.split()[0] for fault in verify(reader)] == ["ping_sample"]
        assert len(queries.latest_paths(reader, "sin", "fra")) == 1


def test_addresses() -> None:
    """What an address says, and what it must not hold."""
    where = place("ducklake:postgres:dbname=a user='u v' data_path=s3://b0/x/")
    assert (where.folder, where.data_path) == (None, "s3://b0/x/")
    assert where.catalog == "dbname='a' user='u v' application_name='isochrone' connect_timeout='10'"
    assert place("here").folder == Path("here").absolute()
    for text, match in (
        ("ducklake:postgres:dbname=a password=x", "PGPASSWORD"),
        ("ducklake:postgres:host=a", "dbname is missing"),
        ("ducklake:postgres:dbname=a nonsense", "KEYWORD=VALUE"),
        ("ducklake:postgres:postgresql://u:p@h/d", "KEYWORD=VALUE"),
        ("ducklake:mysql:x", "a scaled-out warehouse is"),
        ("ducklake:sqlite:x", "named by its folder"),
    ):
        with pytest.raises(UserError, match=match):
            place(text)


@pytest.mark.slow
def test_a_backup_is_restored_elsewhere_and_an_upgrade_is_rolled_back(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the snapshot of pg_dump, while batches are stored: rows equal in another database; then the schema from before, and its rows."""
    _, address = servers.database()
    _, other = servers.database()
    ours = max(name for name, _ in folder("schema"))
    later = [*folder("schema"), ("999_later", "CREATE TABLE later (text VARCHAR); ALTER TABLE site ADD COLUMN later VARCHAR")]
    tables = ("ping_sample", "traceroute", "agent_status", "batch", "schema_migration")

    def rows(wh: Warehouse, snapshot_id: int) -> list[list[str]]:
        with wh.cursor() as cursor:
            return [sorted(map(repr, cursor.execute(f"FROM {name} AT (VERSION => {snapshot_id})").fetchall())) for name in tables]

    with open_warehouse(address, mode="write") as wh:
        put(wh, ping(0, [1_000_000, None]), trace(1), report(NOW))
        before = rows(wh, wh.snapshot_id())
    monkeypatch.setattr(migrations, "folder", lambda name: later if name == "schema" else folder(name))
    with open_warehouse(address, mode="write") as wh:  # the upgrade
        writer = threading.Thread(target=lambda: [put(wh, ping(n, [n])) for n in range(10, 14)])
        writer.start()
        made, fetched = backup(address, tmp_path / "safe", now=NOW)
        writer.join(60)
        assert fetched == len(made.files) > 0
        assert restore(tmp_path / "safe", other).snapshot_id == made.snapshot_id
        with open_warehouse(other.partition(" data_path=")[0], mode="write") as back:
            assert rows(back, made.snapshot_id) == rows(wh, made.snapshot_id)
            assert back.data_path == f"{place(other).data_path}"
            assert verify(back) == []
            put(back, ping(99, [5]))
        with pytest.raises(UserError, match="holds a warehouse already"):
            restore(tmp_path / "safe", other)
        with pytest.raises(OutsideError, match="stop them first"):
            rollback(address)
        put(wh, ping(50, [1]))
    with pytest.raises(UserError, match="5 batches were stored since the upgrade"):
        rollback(address)
    assert rollback(address, is_discarding=True).schema == ours
    monkeypatch.undo()
    with open_warehouse(address, mode="write") as wh:  # the version from before
        assert rows(wh, wh.snapshot_id()) == before
        assert verify(wh) == []
    assert servers.postgres.run("SELECT count(*) FROM ducklake_snapshot", database=place(address).catalog.split("'")[1]) == 0


@pytest.mark.slow
def test_a_warehouse_moves_there_and_back(servers: Servers, tmp_path: Path, own: Warehouse) -> None:
    """`isochrone warehouse copy`: every row once, roll-ups and what is not rolled up yet too; broken off, it goes on; no full target."""
    _, address = servers.database()
    put(own, ping(0, [1_000_000, 2_000_000]), trace(1), transfer(2, 10**9), report(NOW))
    rollup(own, now=NOW + timedelta(hours=2))
    put(own, ping(3, [3_000_000], dst="ams"), ping(4, [4_000_000]))
    set_kept(own, {"raw": 14})
    before = queries.link_estimates(own, now=NOW, grain="hour")
    with pytest.raises(KeyboardInterrupt):
        copy_warehouse(str(own.location), address, on_chunk=_broken_off_after("ping_sample"))
    result = CliRunner().invoke(root, ["warehouse", "copy", str(own.location), address, "--json"], standalone_mode=False)
    assert result.exception is None, result.output
    copied = json.loads(result.stdout)
    assert copied["found_rows"] > 0
    assert (copied["row_counts"]["ping_sample"], copied["row_counts"]["batch"]) == (4, 2)
    back = str(tmp_path / "back")
    assert copy_warehouse(address, back).row_counts == copied["row_counts"]
    with open_warehouse(back, mode="write") as wh:
        assert queries.link_estimates(wh, now=NOW, grain="hour") == before
        assert {kind.name: kind.keep_days for kind in kept(wh)}["raw"] == 14
        # What had not been rolled up is now, once.
        assert rollup(wh, now=NOW + timedelta(hours=2))["rollup_minute"] == 2
        assert queries.link_estimates(wh, now=NOW, grain="hour") == before
        assert store(wh, [batch([ping(0, [1_000_000, 2_000_000])], sequence=10**6)]) == [Outcome.STORED]
    with pytest.raises(UserError, match="name an empty place"):
        copy_warehouse(address, back)
    with pytest.raises(UserError, match="to itself"):
        copy_warehouse(address, address.partition(" data_path=")[0])


def _broken_off_after(table: str) -> Callable[[str, int, int], None]:
    def stop(what: str, _done: int, _total: int) -> None:
        if what.startswith(table):
            raise KeyboardInterrupt

    return stop
