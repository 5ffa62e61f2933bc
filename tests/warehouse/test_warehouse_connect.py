"""Opening a warehouse: one writer and many readers in different processes, and a clear word for every mistake."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest
from warehouse_builders import NOW, ping, put

from records.errors import NotPermitted, OutsideError, UserError, WarehouseMissing
from warehouse import Warehouse, extensions, open_warehouse
from warehouse.connect import catalog_of
from warehouse.extensions import extension_path
from warehouse.lock import FolderLock
from warehouse.queries import measurement_counts

ROOT = Path(__file__).parents[2]

READER = """
import sys, time
from warehouse import open_warehouse
from warehouse.queries import measurement_counts
seen = []
with open_warehouse(sys.argv[1]) as wh:
    print("open", flush=True)
    while not seen or seen[-1] < int(sys.argv[2]):
        seen.append(measurement_counts(wh)["ping"])
assert seen == sorted(seen), seen
print(len(seen))
"""

WRITER = """
import sys
sys.path.insert(0, "tests/warehouse")
from warehouse import open_warehouse
from warehouse_builders import batch, ping
from warehouse.store import store
me = sys.argv[2]
with open_warehouse(sys.argv[1], mode="write") as wh:
    for n in range(int(sys.argv[3])):
        store(wh, [batch([ping(n, [1000], id=f"{me}-{n}", agent=me)], agent=me, boot=me, sequence=n)])
"""


def _python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _ended_well(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    return out


@pytest.mark.slow
def test_readers_in_other_processes_see_whole_commits_while_one_writes(kept: Path) -> None:
    """Three readers query without an error, and never see less than before, while a writer commits."""
    rounds = 25
    with open_warehouse(kept, mode="write") as wh:
        put(wh, ping(0, [1000]))
        readers = [_python(READER, kept, rounds) for _ in range(3)]
        for reader in readers:
            assert reader.stdout is not None
            # On a slow machine DuckDB draws a progress bar first.
            assert "open\n" in iter(reader.stdout.readline, "")
        for n in range(1, rounds):
            put(wh, ping(n, [1000, None]))
        assert all(int(_ended_well(reader)) >= 1 for reader in readers)


def test_two_writers_take_turns(tmp_path: Path) -> None:
    """Two processes write to one warehouse at the same time, as an import beside a collector does; nothing is lost."""
    place = tmp_path / "kept"
    writers = [_python(WRITER, place, name, 12) for name in ("aa", "bb")]
    for writer in writers:
        _ended_well(writer)
    with open_warehouse(place) as wh:
        assert measurement_counts(wh)["ping"] == 24


def test_a_writer_that_cannot_have_the_lock_says_so(tmp_path: Path) -> None:
    """Waiting for another writer ends with a message."""
    lock = FolderLock(tmp_path)
    with lock.held(), pytest.raises(OutsideError, match="another process has been writing"), lock.held(timeout_s=0.05):
        pass


def test_a_folder_may_be_moved_and_may_have_an_odd_name(tmp_path: Path) -> None:
    """A warehouse is whole wherever its folder goes, also under a name with spaces and quotes."""
    first, second = tmp_path / 'it\'s a "place"', tmp_path / "dé ménagé; DROP"
    with open_warehouse(first, mode="write") as wh:
        put(wh, ping(0, [1000, 2000]))
    shutil.move(first, second)
    with open_warehouse(second) as wh:
        assert measurement_counts(wh)["ping"] == 1
    with open_warehouse(second, mode="write") as wh:
        put(wh, ping(1, [1000]))
        assert measurement_counts(wh)["ping"] == 2


def test_snapshot_grows_with_every_commit_and_reading_leaves_it(kept: Path) -> None:
    """The snapshot id names a state: same state, same id."""
    with open_warehouse(kept, mode="write") as wh:
        before = wh.snapshot_id()
        assert wh.snapshot_id() == before
        put(wh, ping(0, [1000]))
        assert wh.snapshot_id() > before


def test_opening_again_migrates_nothing(tmp_path: Path) -> None:
    """A second opening finds the schema as it should be and changes nothing."""
    with open_warehouse(tmp_path / "kept", mode="write") as wh:
        before = wh.snapshot_id()
    with open_warehouse(tmp_path / "kept", mode="write") as wh:
        assert wh.snapshot_id() == before


def test_times_come_out_in_utc_whatever_the_machine_says(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's time zone has no part in it."""
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    at = NOW - timedelta(hours=1)
    with open_warehouse(kept, mode="write") as wh:
        put(wh, ping(0, [1000], at=at))
        with wh.cursor() as cursor:
            row = cursor.execute("SELECT sent_at, sent_at::VARCHAR FROM ping_sample").fetchone()
    assert row is not None
    assert row[0] == at
    assert row[1] == "2026-03-01 11:00:00+00"


def test_missing_warehouse(tmp_path: Path) -> None:
    """Reading where nothing is raises WarehouseMissing and makes nothing."""
    with pytest.raises(WarehouseMissing, match=r"no warehouse at .*isochrone demo"):
        open_warehouse(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(WarehouseMissing, match="holds no warehouse"):
        open_warehouse(tmp_path)


def test_not_a_warehouse(tmp_path: Path) -> None:
    """A file, a folder with a foreign catalog and an address are refused with what to do."""
    file = tmp_path / "file"
    file.write_text("hello")
    for mode in ("read", "write"):
        with pytest.raises(UserError, match=r"is a file|file is in the way"):
            open_warehouse(file, mode=mode)  # type: ignore[arg-type]
    (tmp_path / "catalog.sqlite").write_text("not SQLite, but long enough to be looked at")
    for mode in ("read", "write"):
        with pytest.raises(UserError, match="not the catalog of a warehouse"):
            open_warehouse(tmp_path, mode=mode)  # type: ignore[arg-type]


def test_a_catalog_without_its_files(own: Warehouse) -> None:
    """The folder of the Parquet files is gone: said as such, and no new one is made in its place."""
    place = own.location
    own.close()
    (place / "data").rename(place / "elsewhere")
    with pytest.raises(OutsideError, match=r"has its catalog but not its files: there is no folder .*data; put it back, or take a copy"):
        open_warehouse(place)
    with pytest.raises(OutsideError, match=r"not its files"):
        open_warehouse(place, mode="write")
    assert not (place / "data").exists()


def test_a_folder_that_is_gone_while_it_is_open_is_said(kept: Path) -> None:
    """Moved away under a reader: an error made on purpose, whatever is asked; which catalog is there is told by its file."""
    before = catalog_of(kept)
    with open_warehouse(kept) as wh:
        assert wh.snapshot_id() >= 0
        kept.rename(kept.with_name("away"))
        with pytest.raises(OutsideError, match="the warehouse's catalog cannot be used"):
            wh.snapshot_id()
        with pytest.raises(OutsideError, match="the warehouse's catalog cannot be used"):
            measurement_counts(wh)
    with pytest.raises(WarehouseMissing, match="there is no warehouse at"):
        catalog_of(kept)
    kept.with_name("away").rename(kept)
    assert catalog_of(kept) == before
    shutil.copytree(kept, kept.with_name("copy"))
    assert catalog_of(kept.with_name("copy")) != before


def test_a_newer_warehouse_is_left_alone(kept: Path) -> None:
    """A schema from a later version is not read and not changed."""
    with open_warehouse(kept, mode="write") as wh, wh.transaction() as cursor:
        cursor.execute("INSERT INTO schema_migration VALUES ('999_future', 'x', now())")
    for mode in ("read", "write"):
        with pytest.raises(UserError, match=r"newer version \(it has 999_future"):
            open_warehouse(kept, mode=mode)  # type: ignore[arg-type]


def test_an_older_warehouse_is_brought_up_to_date_by_a_writer(kept: Path) -> None:
    """Readers say what to do with an older schema; a writer applies what is missing."""
    with open_warehouse(kept, mode="write") as wh, wh.transaction() as cursor:
        cursor.execute("DELETE FROM schema_migration WHERE name = 'views'")
        cursor.execute("DROP VIEW links")
    with pytest.raises(UserError, match="older version"):
        open_warehouse(kept)
    with open_warehouse(kept, mode="write") as wh, wh.cursor() as cursor:
        assert cursor.execute("SELECT count(*) FROM links").fetchone() == (0,)


def test_readers_cannot_write(kept: Path) -> None:
    """A warehouse open for reading starts no transaction, and DuckDB itself refuses to write."""
    with open_warehouse(kept) as wh:
        with pytest.raises(UserError, match="reading only"), wh.transaction():
            pass
        with wh.cursor() as cursor, pytest.raises(Exception, match="read-only"):
            cursor.execute("INSERT INTO view_column VALUES ('a', 'b', 'c')")


def test_closed_folders(kept: Path) -> None:
    """A folder closed to this user gives NotPermitted and not a traceback."""
    if os.geteuid() == 0:
        pytest.skip("root may open every folder; the next test asks another user")
    kept.chmod(0)
    with pytest.raises(NotPermitted):
        open_warehouse(kept)


def test_another_users_folder(tmp_path: Path, kept: Path) -> None:
    """A user without rights to the folder is told so, reading and writing."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    kept.chmod(0o700)
    nobody = pwd.getpwnam("nobody")
    code = """
import os, sys
from records.errors import NotPermitted
from warehouse import open_warehouse
open_warehouse(sys.argv[1]).close()
os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
for place, mode in ((sys.argv[1], "read"), (sys.argv[1], "write"), (sys.argv[1] + "/../other", "write")):
    try:
        open_warehouse(place, mode=mode)
    except NotPermitted as error:
        assert "grant" in str(error) or "choose" in str(error), error
    else:
        raise SystemExit(f"{mode} {place} was let through")
"""
    _ended_well(_python(code, kept, nobody.pw_uid))


def test_a_changed_extension_is_refused_at_every_opening(tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is taken without its signature being checked again only while it is the file that was checked; nobody can load others."""
    with open_warehouse(kept) as again, again.cursor() as cursor:
        assert cursor.execute("SELECT current_setting('allow_unsigned_extensions')").fetchone() == (False,)
        with pytest.raises(duckdb.Error, match="while database is running"):
            cursor.execute("SET allow_unsigned_extensions = true")
    signed = extension_path("ducklake")
    changed = tmp_path / signed.name
    changed.write_bytes(signed.read_bytes().replace(b"ducklake_snapshot", b"DUCKLAKE_SNAPSHOT", 1))
    monkeypatch.setitem(extensions._PATHS, "ducklake", changed)
    for _ in range(2):
        with pytest.raises(OutsideError, match="signature"):
            open_warehouse(kept)


def test_the_environment_bounds_the_threads(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number is DuckDB's setting, nothing is one thread a core (DuckDB's own word for it), anything else is refused."""
    with duckdb.connect() as alone:
        (own,) = alone.execute("SELECT current_setting('threads')").fetchone() or (None,)
    for said, expected in (("1", 1), ("3", 3), ("", own)):
        monkeypatch.setenv("ISOCHRONE_DUCKDB_THREADS", said)
        with open_warehouse(kept) as wh, wh.cursor() as cursor:
            assert cursor.execute("SELECT current_setting('threads')").fetchone() == (expected,)
    for said in ("0", "-1", "two", "1.5", "99999", "²"):
        monkeypatch.setenv("ISOCHRONE_DUCKDB_THREADS", said)
        with pytest.raises(UserError, match=r"ISOCHRONE_DUCKDB_THREADS=.*whole number"):
            open_warehouse(kept)


def test_a_bounded_one_writes_the_same_warehouse_with_its_own_memory(tmp_path: Path) -> None:
    """Its bound is its own; what it commits others see at once; it is closed behind the block, and the warehouse is not."""
    limit = "SELECT value FROM duckdb_settings() WHERE name = 'memory_limit'"
    with open_warehouse(tmp_path / "w", mode="write") as wh:
        with wh.cursor() as cursor:
            usual = cursor.execute(limit).fetchone()
        with wh.bounded(300) as bounded:
            with bounded.cursor() as own, wh.cursor() as cursor:
                assert own.execute(limit).fetchone() == ("286.1 MiB",)  # 300 million bytes
                assert cursor.execute(limit).fetchone() == usual
            before = wh.snapshot_id()
            with bounded.transaction() as writer:
                writer.execute("INSERT INTO expiry (table_name, before_at, row_count, expired_at) VALUES ('ping_sample', now(), 0, now())")
            assert wh.snapshot_id() == before + 1
        with pytest.raises(duckdb.Error):
            bounded.cursor()
        assert wh.snapshot_id() == before + 1
