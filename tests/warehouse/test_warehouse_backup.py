"""Backups, restoring them, and going back after an upgrade: rows equal, beside a collector that writes, and nothing half done."""

from __future__ import annotations

import itertools
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from collector_process import Process, running
from warehouse_builders import NOW, ping, post, put, report, trace, transfer

from app.cli import root
from records.errors import OutsideError, UserError, WarehouseMissing
from warehouse import Warehouse, open_warehouse
from warehouse import migrate as migrations
from warehouse.backup import backup, check_backup, read_backup
from warehouse.maintain import tidy, verify
from warehouse.restore import restore
from warehouse.rollback import kept_catalogs, rollback
from warehouse.statements import folder

TABLES = ("ping_sample", "traceroute", "throughput", "agent_status", "batch", "rollup_minute", "rollup_hour")


def rows(wh: Warehouse, snapshot_id: int | None = None) -> dict[str, list[Any]]:
    """Every row of the tables that matter, in an order of their own."""
    at = "" if snapshot_id is None else f" AT (VERSION => {snapshot_id})"
    with wh.cursor() as cursor:
        return {name: sorted(map(repr, cursor.execute(f"FROM {name}{at}").fetchall())) for name in TABLES}


def fill(wh: Warehouse, first: int, count: int = 3) -> None:
    """Some batches of each kind."""
    for n in range(first, first + 10 * count, 10):
        put(wh, ping(n, [1_000_000 + n, None]), trace(n + 1), transfer(n + 2, 10**6 + n), report(NOW))


def run(*arguments: str) -> Any:
    """A command of `isochrone warehouse` and the JSON that it says."""
    result = CliRunner().invoke(root, ["warehouse", *arguments, "--json"], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return json.loads(result.stdout)


class Agent(threading.Thread):
    """An agent that sends batches, one after the other, until it is told to stop."""

    def __init__(self, collector: Process) -> None:
        super().__init__()
        self._collector, self._stop_it, self.refused = collector, threading.Event(), 0
        self.sent = threading.Semaphore(0)

    def run(self) -> None:
        """Send them."""
        with self._collector.client() as client:
            for n in itertools.count(1000, 100):
                if self._stop_it.is_set():
                    return
                content = post([ping(n, [1_000_000 + n, None]), trace(n + 1), transfer(n + 2, 10**6 + n)], sequence=n)
                self.refused += client.post(**content).status_code != 200
                self.sent.release()

    def stop(self) -> None:
        """No more of them."""
        self._stop_it.set()
        self.join(60)


def test_a_backup_beside_a_collector_is_one_moment_and_is_restored_row_by_row(kept: Path, tmp_path: Path) -> None:
    """While a collector commits every tenth of a second, each backup holds exactly the rows of the snapshot that it names."""
    with running(kept, tmp_path / "socket", '{"commit_interval_s": 0.05}') as collector:
        agent = Agent(collector)
        agent.start()
        try:
            for _ in range(2):
                for _ in range(5):
                    assert agent.sent.acquire(timeout=30)
                said = run("backup", str(tmp_path / "safe"), "--warehouse", str(kept))
            for _ in range(5):  # it goes on
                assert agent.sent.acquire(timeout=30)
        finally:
            agent.stop()
        collector.stop()
    assert agent.refused == 0
    assert restore(tmp_path / "safe", str(tmp_path / "restored")).snapshot_id == said["snapshot_id"]
    with open_warehouse(tmp_path / "restored") as back:
        found = rows(back)
        assert verify(back) == []
    with open_warehouse(kept) as source:
        assert said["snapshot_id"] < source.snapshot_id()
        assert found == rows(source, said["snapshot_id"])
        assert len(found["batch"]) < len(rows(source)["batch"])
    assert said["row_counts"]["ping_sample"] == len(found["ping_sample"]) > 0
    with open_warehouse(tmp_path / "safe") as itself:  # the backup of an embedded warehouse is one
        assert rows(itself) == found
    with open_warehouse(tmp_path / "restored", mode="write") as back:  # and what is restored goes on
        fill(back, 9000, 1)
        assert len(rows(back)["batch"]) == len(found["batch"]) + 1


def test_a_second_backup_fetches_what_is_new_and_removes_what_is_gone(own: Warehouse, tmp_path: Path) -> None:
    """Files that are there already are not copied again; a file that differs is told before anything is restored."""
    safe = tmp_path / "safe"
    fill(own, 0)
    first, fetched = backup(str(own.location), safe, now=NOW)
    assert fetched == len(first.files) > 0
    fill(own, 100, 1)
    second, fetched = backup(str(own.location), safe, now=NOW)
    assert 0 < fetched < len(second.files)
    assert {str(path.relative_to(safe / "data")) for path in (safe / "data").rglob("*.parquet")} == set(second.files)
    assert check_backup(safe) == second
    spoilt = safe / "data" / min(second.files)
    spoilt.write_bytes(spoilt.read_bytes()[:-1] + b"\0")
    with pytest.raises(OutsideError, match="is not what was backed up"):
        restore(safe, str(tmp_path / "restored"))
    assert not (tmp_path / "restored").exists()
    spoilt.unlink()
    _, fetched = backup(str(own.location), safe, now=NOW)
    assert fetched == 1
    check_backup(safe)


def test_a_backup_that_fails_leaves_the_one_before(own: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken off before the catalog took its place: the earlier backup is whole, and the next one is made."""
    safe = tmp_path / "safe"
    fill(own, 0)
    first, _ = backup(str(own.location), safe, now=NOW)
    fill(own, 100)
    with monkeypatch.context() as patch:
        patch.setattr("warehouse.backup._counted", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            backup(str(own.location), safe, now=NOW)
    assert check_backup(safe) == first
    restore(safe, str(tmp_path / "restored"))
    second, _ = backup(str(own.location), safe, now=NOW)
    assert second.snapshot_id > first.snapshot_id
    assert check_backup(safe) == second


def test_mistakes_about_backups_are_told(own: Warehouse, tmp_path: Path) -> None:
    """A folder with something else in it, a restore onto something, the other kind, no backup at all."""
    place, other = str(own.location), tmp_path / "other"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(UserError, match=r"holds something that is no backup \(thesis.txt\)"):
        backup(place, tmp_path / "full", now=NOW)
    with pytest.raises(UserError, match="inside of the warehouse"):
        backup(place, own.location / "safe", now=NOW)
    with pytest.raises(UserError, match="no backup"):
        backup(place, own.location.parent, now=NOW)
    open_warehouse(other, mode="write").close()
    with pytest.raises(UserError, match="holds something that is no backup"):
        backup(place, other, now=NOW)
    backup(place, tmp_path / "safe", now=NOW)
    with pytest.raises(UserError, match="holds a backup of"):
        backup(str(other), tmp_path / "safe", now=NOW)
    with pytest.raises(UserError, match="holds something already"):
        restore(tmp_path / "safe", place)
    with pytest.raises(UserError, match="is restored to a folder"):
        restore(tmp_path / "safe", "ducklake:postgres:dbname=isochrone data_path=s3://isochrone/data")
    with pytest.raises(WarehouseMissing, match="is no backup"):
        read_backup(tmp_path / "full")
    (tmp_path / "safe" / "backup.json").write_text('{"format": 2}')
    with pytest.raises(UserError, match="another version"):
        restore(tmp_path / "safe", str(tmp_path / "new"))


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A warehouse of an earlier schema, with rows."""
    first = [(name, text) for name, text in folder("schema") if name < "022"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "folder", lambda name: first if name == "schema" else folder(name))
        with open_warehouse(tmp_path / "older", mode="write") as wh:
            fill(wh, 0)
    return tmp_path / "older"


def test_an_upgrade_keeps_the_catalog_and_is_rolled_back(older: Path) -> None:
    """Back to the very rows and schema from before; what came since is counted first, and whoever has it open is waited for by nobody."""
    newest = max(name for name, _ in folder("schema"))
    with pytest.raises(UserError, match="keeps no catalog"):
        rollback(str(older))
    with open_warehouse(older, mode="write") as wh:
        before = rows(wh)
        assert [kept.schema for kept in kept_catalogs(str(older))] == ["021_count_settings"]
        with pytest.raises(OutsideError, match=r"has the warehouse .* open; stop it first"):
            rollback(str(older))
    with open_warehouse(older, mode="write") as wh:
        assert len(kept_catalogs(str(older))) == 1  # nothing to upgrade, nothing kept
        fill(wh, 500, 2)
        tidy(wh)
    with pytest.raises(UserError, match="2 batches were stored since the upgrade and would be lost"):
        rollback(str(older))
    done = run("rollback", "--discard", "--warehouse", str(older))
    assert done == {"from_schema": newest, "schema": "021_count_settings", "lost_batches": 2}
    with pytest.raises(UserError, match="is of an older version"):
        open_warehouse(older)
    first = [(name, text) for name, text in folder("schema") if name < "022"]
    with pytest.MonkeyPatch.context() as patch:  # the version from before opens it, and goes on
        patch.setattr(migrations, "folder", lambda name: first if name == "schema" else folder(name))
        with open_warehouse(older, mode="write") as wh:
            assert rows(wh) == before
            assert verify(wh) == []
            fill(wh, 700, 1)
    with open_warehouse(older, mode="write") as wh:  # and the upgrade is made again
        assert len(rows(wh)["batch"]) == len(before["batch"]) + 1
        assert verify(wh) == []


def test_a_kept_catalog_without_its_files_is_refused(older: Path) -> None:
    """Too old to go back to: told, and the warehouse stays as it is."""
    with open_warehouse(older, mode="write") as wh:
        before = rows(wh)
    gone = min((older / "data").rglob("*.parquet"))
    gone.rename(older / "gone")
    with pytest.raises(OutsideError, match="1 files of the catalog from before the upgrade are gone"):
        rollback(str(older), is_discarding=True)
    (older / "gone").rename(gone)
    with open_warehouse(older) as wh:
        assert rows(wh) == before
