"""Always readable: whoever reads beside a collector that stores gets answers, of whole commits, and no error."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest
from collector_process import ROOT, running
from warehouse_builders import NOW, ping, post

from warehouse import open_warehouse
from warehouse.maintain import tidy
from warehouse.opening import python_lines

#: Each counts packets again and again and prints what it counted.
READERS = {
    "dashboard": """
import sys
from datetime import UTC, datetime
from warehouse import open_warehouse, queries
with open_warehouse(sys.argv[1]) as wh:
    for _ in range(8):
        queries.link_estimates(wh, now=datetime(2026, 3, 1, 12, tzinfo=UTC))
        queries.agents(wh, datetime(2026, 3, 1, 12, tzinfo=UTC))
        print(queries.measurement_counts(wh)["ping"], flush=True)
""",
    "cli": """
import subprocess, sys
for _ in range(2):
    query = "SELECT count(*) AS n FROM ping_sample WHERE is_round_start"
    argv = [sys.executable, "-m", "app.cli", "sql", query, "--format", "csv", "--warehouse", sys.argv[1]]
    print(subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()[1], flush=True)
""",
    "duckdb": """
import sys
exec(sys.argv[2])
for _ in range(12):
    con.execute("FROM links").fetchall()
    print(con.execute("SELECT count(*) FROM ping_sample WHERE is_round_start").fetchone()[0], flush=True)
""",
}

pytestmark = pytest.mark.usefixtures("all_cores")


@pytest.mark.parametrize("reader", ["isochrone", "duckdb"])
def test_rows_on_their_way_to_parquet_stay_in_sight(kept: Path, reader: str) -> None:
    """Rows that go from the catalog to Parquet in the middle of a query are counted once, by ours and by DuckDB alone."""
    with open_warehouse(kept, mode="write") as wh:
        tidy(wh)
        with wh.transaction() as writing:
            writing.execute("INSERT INTO site (id, kind, name, lat, lon, updated_at) VALUES ('sin', 'pop', 'Singapore', 1, 104, now())")
        found: dict[str, duckdb.DuckDBPyConnection] = {}
        if reader == "duckdb":
            exec("\n".join(python_lines(wh.place, wh.data_path)), found)  # noqa: S102 - these lines are what is tested

        def move(value: int) -> int:
            tidy(wh)
            return value

        with open_warehouse(kept) as other, found.get("con") or other.cursor() as reading:
            reading.create_function("move", move, [int], int, side_effects=True)  # type: ignore[list-item, arg-type]
            # The join looks at its right side first, and the files of the left one are known by then.
            query = "SELECT count(*) FROM wh.site JOIN (SELECT move(0::BIGINT) AS least) ON lat > least"
            assert reading.execute(query).fetchall() == [(1,)]
            assert reading.execute("SELECT count(*) FROM wh.site").fetchall() == [(1,)]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_three_readers_beside_a_collector(tmp_path: Path, empty_warehouse: Path) -> None:
    """The dashboard's questions, the command line and DuckDB alone, while batches of ten rounds are committed many times a second."""
    place = tmp_path / "kept"
    shutil.copytree(empty_warehouse, place)
    with open_warehouse(place) as wh:
        alone = "\n".join(python_lines(wh.place, wh.data_path))
    over = threading.Event()
    answers: list[int] = []
    with running(place, tmp_path / "c.sock", '{"commit_interval_s": 0.05}') as collector:

        def send() -> None:
            sequence = 0
            with collector.client() as client:
                while not over.is_set():
                    rounds = [ping(10 * sequence + n, [1000, None], at=NOW) for n in range(10)]
                    answers.append(client.post(**post(rounds, sequence=sequence)).status_code)
                    sequence += 1

        sender = threading.Thread(target=send)
        sender.start()
        readers = {
            name: subprocess.Popen(
                [sys.executable, "-c", code, str(place), alone],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for name, code in READERS.items()
        }
        said = {name: process.communicate(timeout=350) for name, process in readers.items()}
        over.set()
        sender.join()
    assert set(answers) == {200}
    assert {name: (process.returncode, said[name][1]) for name, process in readers.items()} == dict.fromkeys(READERS, (0, ""))
    for name, (out, _) in said.items():
        counts = [int(line) for line in out.split()]
        assert counts == sorted(counts), name
        # A batch is there whole or not at all.
        assert {count % 10 for count in counts} == {0}, name
        assert counts[-1] <= 10 * len(answers), name
