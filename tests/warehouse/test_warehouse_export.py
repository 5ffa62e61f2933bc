"""One plain DuckDB file, and the lines that open the warehouse itself: read by the stock tools, without our extensions."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from warehouse_builders import ping, put, trace, transfer

from records.errors import OutsideError, UserError
from warehouse import Warehouse, open_warehouse
from warehouse.export import export
from warehouse.opening import python_lines, shell_lines


@pytest.fixture(scope="module")
def filled(shared: Warehouse) -> tuple[Warehouse, int]:
    """A warehouse with a little of everything, and a snapshot before half of it."""
    put(shared, ping(1, [1_000_000, None]), trace(2))
    early = shared.snapshot_id()
    put(shared, ping(3, [2_000_000]), transfer(4, 10**9))
    return shared, early


def test_the_file_is_plain_duckdb(filled: tuple[Warehouse, int], tmp_path: Path) -> None:
    """A fresh connection, under any name, without extensions: every table and view, with the same rows and comments."""
    warehouse, early = filled
    done = export(warehouse, tmp_path / "x.duckdb")
    assert done.snapshot_id == warehouse.snapshot_id()
    (tmp_path / "x.duckdb").rename(tmp_path / "an odd name.db")
    with duckdb.connect(tmp_path / "an odd name.db", read_only=True) as plain, warehouse.cursor() as kept:
        for (name,) in kept.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = 'wh' AND NOT internal").fetchall():
            count = f'SELECT count(*) FROM "{name}"'  # noqa: S608 - a name from the catalog itself
            assert plain.execute(count).fetchall() == kept.execute(count).fetchall() == [(done.row_counts[name],)], name
        for table in ("ping_sample", "traceroute", "site"):
            rows = f"FROM {table} ORDER BY ALL"
            assert plain.execute(rows).fetchall() == kept.execute(rows).fetchall()
        views = plain.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        assert len(views) > 10
        for (name,) in views:
            plain.execute(f'FROM "{name}" LIMIT 1').fetchall()
        words = "SELECT name, column_name, data_type, comment FROM data_dictionary ORDER BY ALL"
        assert plain.execute(words).fetchall() == kept.execute(words).fetchall()
        assert plain.execute("SELECT count(*) FROM data_dictionary WHERE comment IS NULL").fetchone() == (0,)
        assert plain.execute("SELECT rtt_bucket(1000000)").fetchone() == kept.execute("SELECT rtt_bucket(1000000)").fetchone()
    (tmp_path / "y.duckdb").write_text("something else")
    before = export(warehouse, tmp_path / "y.duckdb", snapshot_id=early, force=True)
    assert (before.row_counts["ping_sample"], before.row_counts["throughput"]) == (2, 0)
    with duckdb.connect(tmp_path / "y.duckdb", read_only=True) as plain:
        assert plain.execute("SELECT count(*) FROM ping_sample").fetchone() == (2,)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["an odd name.db", "y.duckdb"]


def test_it_writes_over_nothing(filled: tuple[Warehouse, int], tmp_path: Path) -> None:
    """Not without --force, not over a folder, not into one that is not there, not of a snapshot that is none; and nothing stays behind."""
    warehouse, _ = filled
    path = tmp_path / "x.duckdb"
    path.write_text("mine")
    for target, options, message in (
        (path, {}, "exists; --force writes over it"),
        (tmp_path, {"force": True}, "is a folder"),
        (tmp_path / "none" / "x.duckdb", {}, "there is no folder"),
        (tmp_path / "z.duckdb", {"snapshot_id": 99_999}, "there is no snapshot 99999"),
    ):
        with pytest.raises(UserError, match=message):
            export(warehouse, target, **options)
    assert path.read_text() == "mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.duckdb"]


def test_three_lines_open_it_in_the_stock_shell_and_in_python(filled: tuple[Warehouse, int]) -> None:
    """The lines as printed, in processes that know nothing of isochrone; writing through them is refused."""
    warehouse, _ = filled
    lines = shell_lines(warehouse.place, warehouse.data_path)
    assert len(lines) == len(python_lines(warehouse.place, warehouse.data_path)) == 3
    question = "SELECT count(*) FROM ping_sample; SELECT src FROM links LIMIT 0;"
    shell = Path(sys.executable).with_name("duckdb")
    if shell.exists():
        done = subprocess.run(
            [shell, "-csv", "-noheader"], input="\n".join([*lines, question]), capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stdout.split() == ["3"]
        refused = subprocess.run(
            [shell], input="\n".join([*lines, "DELETE FROM ping_sample;"]), capture_output=True, text=True, timeout=60, check=False
        )
        assert "read-only" in refused.stderr
    else:
        print(f"no stock shell at {shell}: pip install duckdb-cli")  # noqa: T201
    script = "\n".join(
        [*python_lines(warehouse.place, warehouse.data_path), "print(con.execute('SELECT count(*) FROM ping_sample').fetchall())"]
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[(3,)]"


def test_a_file_of_the_warehouse_that_cannot_be_read(own: Warehouse, tmp_path: Path) -> None:
    """One clear error that names the file, from a query, from a page's question and from an export, which leaves nothing."""
    from warehouse.queries import latest_paths
    from warehouse.workbench import run

    put(own, trace(1))
    put(own, ping(2, [1, 2]))
    stray = own.location / "data" / "stray.parquet"
    stray.write_bytes(b"PAR1 half a file")
    assert run(own, "SELECT count(*) AS n FROM traceroute").table.to_pylist() == [{"n": 1}]
    (file,) = (own.location / "data" / "main" / "traceroute").rglob("*.parquet")
    shutil.copy(file, tmp_path / "kept.parquet")
    file.write_bytes(file.read_bytes()[:200])
    for ask in (
        lambda: run(own, "SELECT * FROM traceroute"),
        lambda: latest_paths(own, "sin", "fra"),
        lambda: export(own, tmp_path / "x.duckdb"),
    ):
        with pytest.raises(OutsideError, match=r"a file of the warehouse cannot be read.*traceroute"):
            ask()
    assert not list(tmp_path.glob("*x.duckdb*"))
    file.unlink()
    with pytest.raises(OutsideError, match=r"a file of the warehouse cannot be read.*traceroute"):
        run(own, "SELECT * FROM traceroute")
    assert run(own, "SELECT count(rtt_ns) AS n FROM ping_sample").table.to_pylist() == [{"n": 2}]
    shutil.copy(tmp_path / "kept.parquet", file)
    assert run(own, "SELECT count(DISTINCT measurement_id) AS n FROM traceroute").table.to_pylist() == [{"n": 1}]


def test_a_catalog_of_a_newer_ducklake(tmp_path: Path, empty_warehouse: Path) -> None:
    """Said with both versions and what to do, reading and writing; nothing is changed."""
    shutil.copytree(empty_warehouse, tmp_path / "kept")
    with sqlite3.connect(tmp_path / "kept" / "catalog.sqlite") as catalog:
        catalog.execute("UPDATE ducklake_metadata SET value = '9.9' WHERE key = 'version'")
    catalog.close()
    for mode in ("read", "write"):
        with pytest.raises(UserError, match=r"catalog of DuckLake 9\.9, and this version of isochrone reads 1\.0; install"):
            open_warehouse(tmp_path / "kept", mode=mode)  # type: ignore[arg-type]
    with sqlite3.connect(tmp_path / "kept" / "catalog.sqlite") as catalog:
        assert catalog.execute("SELECT value FROM ducklake_metadata WHERE key = 'version'").fetchone() == ("9.9",)
    catalog.close()
