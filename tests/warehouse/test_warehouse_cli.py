"""`isochrone import`, `sql` and `warehouse` as a person or a script calls them."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from warehouse_builders import NOW, ping, put, trace

from app.cli import root
from records.errors import InputError, NoAnswer, OutsideError, UserError, WarehouseMissing
from warehouse import Warehouse, open_warehouse
from warehouse.statements import folder

ROOT = Path(__file__).parents[2]


def _run(*arguments: object, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(root, [*map(str, arguments)], input=stdin, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result


@pytest.fixture(scope="module")
def place(shared: Warehouse) -> Path:
    """A warehouse with a few measurements."""
    put(shared, ping(1, [1_500_000, None]), trace(2))
    return shared.location


def test_import_says_what_became_of_every_row(tmp_path: Path) -> None:
    """--json gives the contract's fields; the same again says that it was there; --sites brings places of one's own."""
    (tmp_path / "s.csv").write_text("id,name,lat,lon\naaa,A,1,1\nbbb,B,50,9\n")
    (tmp_path / "m.csv").write_text("from,dst,rtt_ms\naaa,bbb,150\naaa,ccc,1\nbbb,aaa,1\n")
    arguments = (
        "import",
        "rtt-matrix",
        tmp_path / "m.csv",
        "--sites",
        tmp_path / "s.csv",
        "--map",
        "src=from",
        "--warehouse",
        tmp_path / "w",
    )
    first = json.loads(_run(*arguments, "--json").stdout)
    assert first == {
        "read": 3,
        "stored": 2,
        "already": 0,
        "skipped": 0,
        "rejected": {"unknown_site": 1},
        "flagged": {"faster_than_light": 1},
        "unknown_names": {"ccc": 1},
    }
    again = _run(*arguments)
    assert "read 3, stored 0, already stored 2, rejected 1" in again.stdout
    assert "rejected unknown_site: 1" in again.stdout
    assert "stored but marked faster_than_light: 1" in again.stdout
    assert "nothing new" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("smokeping", "m.csv"), UserError, "unknown format 'smokeping'; formats: rtt-matrix"),
        (("rtt-matrix", "none.csv"), InputError, "none.csv: there is no such file"),
        (("rtt-matrix", "m.csv", "--map", "rtt_ms"), UserError, "--map 'rtt_ms' is not NAME=VALUE, as in --map rtt_ms=avg_rtt"),
        (("rtt-matrix", "m.csv", "--map", "src=a", "--map", "src=b"), UserError, "--map src is given twice"),
        (("rtt-matrix", "m.csv", "--at", "noon"), UserError, "--at 'noon' is no ISO 8601 time"),
        (("rtt-matrix", "m.csv", "--sites", "none.csv"), InputError, "none.csv"),
        (("rtt-matrix", "m.csv", "--medium", "air"), UserError, "'air' is not one of"),
    ],
)
def test_import_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], error: type[Exception], message: str
) -> None:
    """Each mistake is one clear message."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.csv").write_text("src,dst,rtt_ms\n")
    with pytest.raises(error) as caught:
        _run("import", *arguments, "--warehouse", tmp_path / "w")
    assert message in str(caught.value)
    assert not (tmp_path / "w").exists()


QUERY = "SELECT sequence, rtt_ns / 1e6 AS rtt_ms, sent_at, [1, 2] AS pair FROM ping_sample ORDER BY sequence"


@pytest.mark.parametrize("kind", ["ping", "fping", "mtr", "iperf3", "ripe-atlas"])
def test_an_import_that_stores_nothing_is_no(kind: str, tmp_path: Path) -> None:
    """Status 1 and what it was: an empty file is empty, and no row; another's is rejected. Imported before is not nothing."""
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "binary").write_bytes(b"\x7fELF\x00\x01\xff" * 9)
    for name, said, why in (
        ("empty", "read 0, stored 0, rejected 0\n  empty, without a measurement: 1 file\n", "no measurement in what was given"),
        ("binary", "read 1, stored 0, rejected 1\n", "all of it was rejected"),
    ):
        command = ["import", kind, tmp_path / name, "--src", "sin", "--dst", "fra", "--warehouse", tmp_path / "wh"]
        done = CliRunner().invoke(root, [*map(str, command)], standalone_mode=False)
        assert isinstance(done.exception, NoAnswer), done.output
        assert done.stdout.startswith(said)
        assert why in str(done.exception)
        document = json.loads(CliRunner().invoke(root, [*map(str, command), "--json"], standalone_mode=False).stdout)
        assert (document["stored"], sum(document["rejected"].values())) == (0, 1)


def test_sql_as_a_table(place: Path) -> None:
    """The default is an aligned table; the snapshot and the time go to standard error."""
    result = _run("sql", QUERY, "--warehouse", place)
    assert result.stdout.splitlines()[0].split() == ["sequence", "rtt_ms", "sent_at", "pair"]
    assert "1.50" in result.stdout
    assert "2 rows, snapshot " in result.stderr


def test_sql_as_csv_json_and_parquet(place: Path, tmp_path: Path) -> None:
    """Three formats say the same; NULL is empty in CSV and null in JSON, never 0."""
    rows = list(csv.DictReader(io.StringIO(_run("sql", QUERY, "--format", "csv", "--warehouse", place).stdout)))
    assert [(row["sequence"], row["rtt_ms"], row["pair"]) for row in rows] == [("0", "1.5", "[1, 2]"), ("1", "", "[1, 2]")]
    assert rows[0]["sent_at"] == "2026-03-01T11:59:00+00:00"
    document = json.loads(_run("sql", QUERY, "--format", "json", "--warehouse", place).stdout)
    assert [(row["sequence"], row["rtt_ms"], row["pair"]) for row in document] == [(0, 1.5, [1, 2]), (1, None, [1, 2])]
    _run("sql", QUERY, "--format", "parquet", "-o", tmp_path / "x.parquet", "--warehouse", place)
    assert pq.read_table(tmp_path / "x.parquet")["rtt_ms"].to_pylist() == [1.5, None]


def test_sql_from_standard_input_and_to_a_file(place: Path, tmp_path: Path) -> None:
    """- reads the query; -o writes the answer, also of the table format."""
    for kind in ("csv", "table"):
        result = _run("sql", "-", "--format", kind, "-o", tmp_path / "x", "--warehouse", place, stdin="SELECT 7 AS seven")
        assert result.stdout == ""
        assert (tmp_path / "x").read_text() == "seven\n7\n"


def test_sql_keeps_columns_of_the_same_name(place: Path) -> None:
    """Two columns with one name are both in every format."""
    document = json.loads(_run("sql", "SELECT 1 AS a, 2 AS a", "--format", "json", "--warehouse", place).stdout)
    assert document == [{"a": 1, "a_2": 2}]


def test_sql_odd_values(place: Path) -> None:
    """Infinity, bytes, maps and decimals come out as JSON can carry them."""
    query = "SELECT 'inf'::DOUBLE AS i, 'a'::BLOB AS b, MAP {'k': 1} AS m, 1.5::DECIMAL(5, 2) AS d, DATE '2026-01-02' AS day"
    document = json.loads(_run("sql", query, "--format", "json", "--warehouse", place).stdout)
    assert document[0]["i"] == "Infinity"
    assert (document[0]["b"], document[0]["d"], document[0]["day"]) == ("YQ==", 1.5, "2026-01-02")
    assert document[0]["m"] == [["k", 1]]


@pytest.mark.parametrize(
    "value",
    [
        "INTERVAL 3 DAY",
        "INTERVAL '14 months 1 day 02:03:04.5'",
        "INTERVAL '-1 month -2 hours'",
        "INTERVAL 0 DAY",
        "INTERVAL 100 HOUR",
        r"'\x00a\xFFb'::BLOB",
        """'it''s "q"'::BLOB""",
    ],
)
def test_sql_writes_values_as_duckdb_does(place: Path, value: str) -> None:
    """What Python would write in its own way; DuckDB's own cast to text is the oracle."""
    _, row = _run("sql", f"SELECT {value} AS a", "--warehouse", place).stdout.splitlines()
    (told,) = json.loads(_run("sql", f"SELECT ({value})::VARCHAR AS a", "--json", "--warehouse", place).stdout)
    assert row == told["a"]


def test_sql_tells_nan_and_infinity_from_unknown(place: Path) -> None:
    """NULL alone is '-', null and empty."""
    query = "SELECT 'nan'::DOUBLE AS a, 'inf'::DOUBLE AS b, '-inf'::FLOAT AS c, NULL AS d, ['nan'::DOUBLE] AS e"
    assert _run("sql", query, "--warehouse", place).stdout.split()[5:9] == ["NaN", "Infinity", "-Infinity", "-"]
    (row,) = json.loads(_run("sql", query, "--json", "--warehouse", place).stdout)
    assert row == {"a": "NaN", "b": "Infinity", "c": "-Infinity", "d": None, "e": ["NaN"]}
    assert _run("sql", query, "--format", "csv", "--warehouse", place).stdout.splitlines()[1].startswith("NaN,Infinity,-Infinity,,")


def test_sql_draws_a_plan_in_lines(place: Path) -> None:
    """As DuckDB draws it, each line of it its own."""
    drawn = _run("sql", "EXPLAIN SELECT 1", "--warehouse", place).stdout.splitlines()
    assert len(drawn) > 5
    assert all(len(line) < 60 for line in drawn)
    assert "\ufffd" not in "".join(drawn)


def test_sql_says_when_rows_are_left_out(place: Path) -> None:
    """--limit cuts and says so."""
    result = _run("sql", "FROM range(5)", "--limit", 2, "--warehouse", place)
    assert len(result.stdout.splitlines()) == 3
    assert "only the first 2 rows are here" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("SELCT 1",), UserError),
        (("DROP TABLE site",), UserError),
        (("SELECT 1", "-o", "."), UserError),
        (("SELECT 1", "-o", "none/x.csv"), UserError),
        (("SELECT 1", "-o", "/dev/full"), OutsideError),
        (("SELECT 1", "--warehouse", "nowhere"), WarehouseMissing),
    ],
)
def test_sql_mistakes(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], error: type[Exception]
) -> None:
    """Each mistake is of its kind, and so ends with its exit status."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error):
        _run("sql", "--warehouse", place, *arguments, "--format", "csv")


def test_warehouse_status(place: Path) -> None:
    """Rows, files and bytes by table, and the schema's version."""
    document = json.loads(_run("warehouse", "status", "--json", "--warehouse", place).stdout)
    counts = {table["name"]: table["row_count"] for table in document["tables"]}
    assert (counts["ping_sample"], counts["traceroute"], counts["batch"]) == (2, 1, 1)
    assert document["catalog_bytes"] > 0
    assert document["schema"] == max(name for name, _ in folder("schema"))
    assert "ping_sample" in _run("warehouse", "status", "--warehouse", place).stdout


def test_warehouse_verify(tmp_path: Path) -> None:
    """A whole warehouse is exit status 0, a broken one 1 with its faults named."""
    with open_warehouse(tmp_path / "w", mode="write") as wh:
        put(wh, ping(1, [1], at=NOW))
    assert json.loads(_run("warehouse", "verify", "--json", "--warehouse", tmp_path / "w").stdout) == {"ok": True, "faults": []}
    with open_warehouse(tmp_path / "w", mode="write") as wh, wh.transaction() as cursor:
        cursor.execute("DELETE FROM batch")
    with pytest.raises(NoAnswer, match="1 fault in the warehouse"):
        _run("warehouse", "verify", "--warehouse", tmp_path / "w")


def test_exit_status_and_no_traceback(tmp_path: Path) -> None:
    """The real program: one line on standard error, exit status 2, nothing on standard output."""
    command = [sys.executable, "-m", "app.cli", "sql", "SELECT 1", "--warehouse", str(tmp_path / "none")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("isochrone: there is no warehouse at")
    assert "Traceback" not in result.stderr
