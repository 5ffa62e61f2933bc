"""Backups, restoring them, and going back after an upgrade: rows equal, beside a collector that writes, and nothing half done."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import threading
from collections.abc import Callable, Iterator
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
from warehouse.keep_catalog import kept_files
from warehouse.lake_files import needed_by
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


@pytest.mark.slow
def test_a_backup_beside_a_collector_is_one_moment_and_is_restored_row_by_row(kept: Path, tmp_path: Path) -> None:
    """While a collector commits every tenth of a second, each backup holds exactly the rows of the snapshot that it names."""
    with running(kept, tmp_path / "socket", '{"commit_interval_s": 0.05}') as collector:
        agent = Agent(collector)
        agent.start()
        try:
            for _ in range(5):
                assert agent.sent.acquire(timeout=60)
            said = run("backup", str(tmp_path / "safe"), "--warehouse", str(kept))
            for _ in range(3):  # it goes on
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


def test_a_second_backup_brings_the_first_one_forward(own: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only new files are copied; broken off, the earlier one is whole; a file that differs is told before anything is restored."""
    safe = tmp_path / "safe"
    fill(own, 0, 1)
    first, fetched = backup(str(own.location), safe, now=NOW)
    assert fetched == len(first.files) > 0
    fill(own, 100, 1)
    with monkeypatch.context() as patch:
        patch.setattr("warehouse.backup._counted", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            backup(str(own.location), safe, now=NOW)
    assert check_backup(safe) == first
    with open_warehouse(safe) as itself:  # the backup of an embedded warehouse is one
        assert rows(itself) == rows(own, first.snapshot_id)
    second, fetched = backup(str(own.location), safe, now=NOW)
    assert second.snapshot_id > first.snapshot_id
    assert 0 < fetched < len(second.files)
    assert {str(path.relative_to(safe / "data")) for path in (safe / "data").rglob("*.parquet")} == set(second.files)
    assert check_backup(safe) == second
    spoilt = safe / "data" / min(second.files)
    spoilt.write_bytes(spoilt.read_bytes()[:-1] + b"\0")
    with pytest.raises(OutsideError, match="is not what was backed up"):
        restore(safe, str(tmp_path / "restored"))
    assert not (tmp_path / "restored").exists()


def test_mistakes_about_backups_are_told(own: Warehouse, empty_warehouse: Path, tmp_path: Path) -> None:
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
    shutil.copytree(empty_warehouse, other)
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


def everything(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and what is in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_of_others_are_never_removed(own: Warehouse, tmp_path: Path) -> None:
    """A folder `data` that is somebody else's, or a link, or `.new`, is refused by backup and restore and nothing in it changes; a file
    that came into a backup's own stays there.
    """
    place, safe = str(own.location), tmp_path / "safe"
    fill(own, 0, 1)
    backup(place, safe, now=NOW)
    for name in ("data/mine.parquet", "data/2024/x.parquet", ".new/thesis.txt"):
        project = tmp_path / name.replace("/", "-")
        (project / name).parent.mkdir(parents=True)
        (project / name).write_text("mine")
        with pytest.raises(UserError, match=rf"holds something that is no backup \({name.partition('/')[0]}\)"):
            backup(place, project, now=NOW)
        with pytest.raises(UserError, match=rf"holds something already \({name.partition('/')[0]}\)"):
            restore(safe, str(project))
        assert everything(project) == {name: b"mine"}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.parquet").write_text("mine")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "data").symlink_to(elsewhere)
    with pytest.raises(UserError, match="linked/data is a link"):
        backup(place, tmp_path / "linked", now=NOW)
    with pytest.raises(UserError, match="linked/data is a link"):
        restore(safe, str(tmp_path / "linked"))
    (safe / "data" / "more").symlink_to(elsewhere)  # nor anywhere below
    with pytest.raises(UserError, match="data/more is a link"):
        backup(place, safe, now=NOW)
    (safe / "data" / "more").unlink()
    assert everything(elsewhere) == {"mine.parquet": b"mine"}
    (safe / "data" / "mine.parquet").write_text("mine")
    fill(own, 100, 1)
    backup(place, safe, now=NOW)
    assert (safe / "data" / "mine.parquet").read_text() == "mine"


def test_a_first_backup_or_a_restore_that_was_broken_off_goes_on(own: Warehouse, tmp_path: Path) -> None:
    """By the note that says what is ours: what was put there and nothing names any more is removed, and nothing else."""

    def break_off(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    place, safe, back = str(own.location), tmp_path / "safe", tmp_path / "back"
    fill(own, 0, 1)
    with pytest.raises(KeyboardInterrupt):
        backup(place, safe, now=NOW, on_file=break_off)
    assert {path.name for path in safe.iterdir()} == {"data", ".new", "writer.lock", "started.json"}
    (safe / "data" / "mine.parquet").write_text("mine")
    noted = json.loads((safe / "started.json").read_text())
    assert {*everything(safe / "data"), "mine.parquet"} == {*noted["files"][:2], "mine.parquet"}
    (safe / "data" / "merged.parquet").write_text("ours, and merged away before the next")
    (safe / "started.json").write_text(json.dumps({**noted, "files": [*noted["files"], "merged.parquet"]}))
    with pytest.raises(UserError, match="broken off of another one"):
        backup(str(shutil.copytree(own.location, tmp_path / "another")), safe, now=NOW)
    made, _ = backup(place, safe, now=NOW)
    assert {path.name for path in safe.iterdir()} == {"data", "writer.lock", "backup.json", "catalog.sqlite"}
    assert everything(safe / "data").keys() == {*made.files, "mine.parquet"}
    with pytest.raises(KeyboardInterrupt):
        restore(safe, str(back), on_file=break_off)
    assert not (back / "catalog.sqlite").exists()
    restore(safe, str(back))
    assert {path.name for path in back.iterdir()} >= {"data", "catalog.sqlite"}
    assert not (back / "started.json").exists()
    with open_warehouse(back) as restored:
        assert rows(restored) == rows(own)


#: A migration that a later version might have.
LATER = ("999_later", "CREATE TABLE later (text VARCHAR); ALTER TABLE site ADD COLUMN later VARCHAR")


@pytest.fixture
def later_version() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """What makes this program the later version, for the length of a block."""

    @contextlib.contextmanager
    def be_later() -> Iterator[None]:
        schema = [*folder("schema"), LATER]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(migrations, "folder", lambda name: schema if name == "schema" else folder(name))
            yield

    return be_later


def test_an_upgrade_keeps_the_catalog_and_is_rolled_back(
    kept: Path, later_version: Callable[[], contextlib.AbstractContextManager[None]]
) -> None:
    """Back to the very rows and schema from before. What came since is counted first; it is refused while somebody has the warehouse
    open, and when the older catalog's files are gone.
    """
    ours = max(name for name, _ in folder("schema"))
    with open_warehouse(kept, mode="write") as wh:
        fill(wh, 0, 1)
        before = rows(wh)
    with pytest.raises(UserError, match="keeps no catalog"):
        rollback(str(kept))
    with later_version():
        with open_warehouse(kept, mode="write") as wh:
            assert [one.schema for one in kept_catalogs(str(kept))] == [ours]
            with pytest.raises(OutsideError, match=r"has the warehouse .* open; stop it first"):
                rollback(str(kept))
            fill(wh, 500, 2)
            tidy(wh)
        with pytest.raises(UserError, match="2 batches were stored since the upgrade and would be lost"):
            rollback(str(kept))
    with pytest.raises(UserError, match="newer version"):
        open_warehouse(kept)
    gone = kept / "data" / min(file.path for file in needed_by(kept_files(kept)[0]))
    gone.rename(kept / "gone")
    with pytest.raises(OutsideError, match="1 files of the catalog from before the upgrade are gone"):
        rollback(str(kept), is_discarding=True)
    (kept / "gone").rename(gone)
    with later_version():
        done = run("rollback", "--discard", "--warehouse", str(kept))
    assert done == {"from_schema": LATER[0], "schema": ours, "lost_batches": 2}
    with open_warehouse(kept, mode="write") as wh:  # the version from before opens it, and goes on
        assert rows(wh) == before
        assert verify(wh) == []
        fill(wh, 700, 1)
        after = rows(wh)
    with later_version(), open_warehouse(kept, mode="write") as wh:  # and the upgrade is made again
        assert rows(wh) == after
        assert verify(wh) == []
