"""SQL that somebody else wrote reaches the warehouse and nothing else: by the page, by the command, and past both at the connection."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from warehouse_builders import ping, put

from app.cli import root
from records.errors import UserError
from warehouse import Warehouse, open_warehouse
from warehouse.attach import attach
from warehouse.workbench import run

#: What is tried, by what it would reach. {secret}: a file of this host; {out}: one that must not come into being; {port}: somebody who
#: listens; {catalog}, {data}: the warehouse's own; all as one statement, and most of them as DuckDB itself would do it.
TRIED = {
    "a file by read_csv": "SELECT * FROM read_csv('{secret}')",
    "a file by read_text": "SELECT * FROM read_text('{secret}')",
    "a file by its name": "FROM '{secret}'",
    "a file within a subquery": "SELECT (SELECT max(content) FROM read_blob('{secret}'))",
    "a file by glob": "SELECT * FROM glob('{folder}/*')",
    "a process's memory": "SELECT * FROM read_blob('/proc/self/environ')",
    "the catalog's file": "SELECT * FROM sqlite_scan('{catalog}', 'ducklake_snapshot')",
    "the Parquet files by name": "SELECT * FROM parquet_scan('{data}/**/*.parquet')",
    "writing by COPY": "COPY (SELECT 42) TO '{out}'",
    "writing by COPY of a table": "COPY ping_sample TO '{out}' (FORMAT parquet)",
    "reading by COPY": "COPY site FROM '{secret}'",
    "writing by EXPORT": "EXPORT DATABASE '{out}'",
    "another database": "ATTACH '{out}' AS other",
    "another warehouse": "ATTACH 'ducklake:sqlite:{out}' AS other (DATA_PATH '{folder}')",
    "an extension from the network": "INSTALL httpfs",
    "an extension from a repository": "INSTALL spatial FROM 'http://127.0.0.1:{port}'",
    "an extension from a file": "LOAD '{secret}'",
    "the network by read_csv": "SELECT * FROM read_csv('http://127.0.0.1:{port}/x.csv')",
    "the network by a table's name": "FROM 'http://127.0.0.1:{port}/x.parquet'",
    "the network by S3": "FROM 's3://127.0.0.1:{port}/x.parquet'",
    "a setting": "SET enable_external_access = true",
    "a setting of all": "SET GLOBAL allowed_directories = ['/']",
    "a setting taken back": "RESET lock_configuration",
    "a pragma": "PRAGMA enable_external_access",
    "a pragma as a statement": "PRAGMA database_list",
    "the environment": "SELECT getenv('ISOCHRONE_TEST_SECRET')",
    "the environment by a macro": "CREATE TEMP MACRO e() AS getenv('ISOCHRONE_TEST_SECRET')",
    "a secret": "CREATE SECRET s (TYPE s3, KEY_ID 'x', SECRET 'y')",
    "secrets": "FROM duckdb_secrets()",
    "settings by a view": "FROM pg_catalog.pg_settings",
    "settings by a function": "SELECT current_setting('secret_directory')",
    "the catalog's address": "FROM duckdb_databases",
    "the catalog's address by a pragma's view": "FROM pragma_database_list",
    "the address of the files": "SELECT filename FROM ping_sample",
    "history by expiring snapshots": "CALL ducklake_expire_snapshots('wh', older_than => now())",
    "history as a table function": "SELECT * FROM ducklake_expire_snapshots('wh', older_than => now())",
    "files by cleaning up": "SELECT * FROM ducklake_delete_orphaned_files('wh', cleanup_all => true)",
    "files by merging": "CALL ducklake_merge_adjacent_files('wh')",
    "options of the warehouse": "CALL wh.set_option('data_inlining_row_limit', '7')",
    "files by adding them": "CALL ducklake_add_data_files('wh', 'ping_sample', '{secret}')",
    "the catalog by sqlite_query": "SELECT * FROM sqlite_query('__ducklake_metadata_wh', 'DELETE FROM ducklake_snapshot')",
    "the catalog's tables": "FROM __ducklake_metadata_wh.ducklake_snapshot",
    "rows": "DELETE FROM ping_sample",
    "rows in a CTE": "WITH gone AS (SELECT 1) DELETE FROM ping_sample",
    "a table": "DROP TABLE ping_sample",
    "a view": "CREATE OR REPLACE VIEW links AS SELECT 1",
    "two at once": "SELECT 1; DELETE FROM ping_sample",
    "one prepared": "PREPARE p AS DELETE FROM ping_sample",
    "one explained": "EXPLAIN ANALYZE DELETE FROM ping_sample",
}
#: What DuckDB's own settings hold back on the workbench's connection, were a statement to slip past the look at it. The rest of the
#: table has that one wall: SQLite's scanner heeds no setting, and DuckLake's functions and PRAGMAs read nothing of the host.
_TWO_WALLS = [
    *(name for name in TRIED if name.startswith(("a file", "a process", "writing", "reading", "the network", "an extension", "a setting"))),
    *("another database", "a secret", "rows", "a table", "a view", "files by adding them"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with a hundred packets."""
    folder = tmp_path_factory.mktemp("queries") / "kept"
    with open_warehouse(folder, mode="write") as wh:
        put(wh, *[ping(n, [1_000_000 + n]) for n in range(100)])
    return folder


@pytest.fixture(scope="module")
def wh(place: Path) -> Iterator[Warehouse]:
    """It, as a dashboard opens it."""
    with open_warehouse(place) as opened:
        yield opened


class Scene:
    """A host with a secret file, a secret in the environment and a neighbour who listens."""

    def __init__(self, folder: Path, place: Path) -> None:
        self.folder, self.place = folder, place
        self.secret, self.out = folder / "secret.csv", folder / "out"
        self.secret.write_text("a,b\nhidden,treasure\n")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.callers = 0
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            try:
                caller, _ = self.listener.accept()
            except OSError:
                return
            self.callers += 1
            caller.close()

    def query(self, name: str) -> str:
        """One that is tried."""
        words = {"secret": self.secret, "out": self.out, "folder": self.folder, "port": self.listener.getsockname()[1]}
        return TRIED[name].format(**words, catalog=self.place / "catalog.sqlite", data=self.place / "data")

    def close(self) -> None:
        """End the neighbour."""
        self.listener.close()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, place: Path) -> Iterator[Scene]:
    """The same for all: nothing of it may change."""
    os.environ["ISOCHRONE_TEST_SECRET"] = "hidden treasure"
    made = Scene(tmp_path_factory.mktemp("host"), place)
    yield made
    made.close()
    del os.environ["ISOCHRONE_TEST_SECRET"]


def untouched(wh: Warehouse, scene: Scene, snapshot: int) -> None:
    """Nothing was written, nobody was called, and everything is there."""
    assert sorted(path.name for path in scene.folder.iterdir()) == ["secret.csv"]
    assert scene.callers == 0
    assert wh.snapshot_id() == snapshot
    assert run(wh, "SELECT count(*) AS n FROM ping_sample").table.to_pylist() == [{"n": 100}]


@pytest.mark.parametrize("name", TRIED)
def test_the_page_and_the_command_refuse(wh: Warehouse, scene: Scene, name: str) -> None:
    """One sentence, without what was to be reached; the same for both faces, which ask by one function."""
    snapshot = wh.snapshot_id()
    with pytest.raises(UserError) as caught:
        run(wh, scene.query(name))
    assert "treasure" not in str(caught.value)
    untouched(wh, scene, snapshot)


@pytest.mark.parametrize(
    "name", ["a file by read_text", "writing by COPY", "the network by read_csv", "the environment", "a setting", "rows"]
)
def test_the_command_ends_with_status_two(wh: Warehouse, scene: Scene, name: str, place: Path) -> None:
    """`isochrone sql` prints nothing, and writes no file for what it was asked to refuse."""
    snapshot = wh.snapshot_id()
    done = CliRunner().invoke(root, ["sql", scene.query(name), "--warehouse", str(place), "-o", str(scene.folder / "answer")])
    assert isinstance(done.exception, UserError)
    assert done.stdout == ""
    untouched(wh, scene, snapshot)


@pytest.mark.parametrize("name", _TWO_WALLS)
def test_past_the_look_at_the_statement_the_connection_refuses(wh: Warehouse, scene: Scene, name: str) -> None:
    """The second wall: were a statement to slip through, DuckDB's own settings and the read-only catalog hold for what does harm."""
    snapshot = wh.snapshot_id()
    with wh.workbench_connection() as cursor, pytest.raises(duckdb.Error) as caught:
        cursor.execute(scene.query(name))
    assert "treasure" not in str(caught.value)
    untouched(wh, scene, snapshot)


def test_the_role_that_reads_cannot_write(wh: Warehouse, place: Path, scene: Scene) -> None:
    """A warehouse that is opened for reading: no transaction, and DuckLake itself refuses every change."""
    snapshot = wh.snapshot_id()
    with pytest.raises(UserError, match="open for reading only"), wh.transaction():
        pass
    connection = attach(wh.place, "read")
    try:
        for change in (
            "DELETE FROM ping_sample",
            "DROP TABLE ping_sample",
            "CREATE TABLE t (i INTEGER)",
            "INSERT INTO site (id) VALUES ('x')",
        ):
            with pytest.raises(duckdb.Error, match=r"(?i)read.only"):
                connection.execute(change)
    finally:
        connection.close()
    untouched(wh, scene, snapshot)
