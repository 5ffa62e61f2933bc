"""What a question does not need it does not read: days by their files' times, pairs by the order within a file."""

from __future__ import annotations

from datetime import timedelta

import duckdb
import pyarrow.parquet as pq
import pytest
from warehouse_builders import NOW

from warehouse import Warehouse
from warehouse.connect import DATA

pytestmark = pytest.mark.usefixtures("all_cores")

DAYS, SITES, EACH = 3, 50, 60
PAIRS = SITES * (SITES - 1)
#: Not count(*): that is answered from the statistics of files, without reading one. Each packet has 1000 ns.
COUNT = "SELECT sum(rtt_ns) // 1000 FROM ping_sample WHERE "

#: A day's packets of every pair, mixed as they come in; more than one row group of 122,880 rows to a file.
PACKETS = """
INSERT INTO ping_sample BY NAME
SELECT
    format('{}-{}', $day, i) AS measurement_id, 'a' AS agent, 'b' AS boot, format('s{:02d}', i % $sites) AS src,
    format('s{:02d}', (i % $sites + 1 + i // $sites % ($sites - 1)) % $sites) AS dst, 'internet' AS medium, '192.0.2.1' AS target,
    'test/1' AS engine, 'icmp' AS method, $at::TIMESTAMPTZ + to_milliseconds(i) AS started_at, 0 AS sequence, true AS is_round_start,
    started_at AS sent_at, 'reply' AS outcome, 1000 AS rtt_ns, 'user' AS ts_source, 0 AS duplicates, false AS late, 'b' AS batch_boot,
    0 AS batch_sequence, started_at AS received_at, false AS is_duplicate_id
FROM range($sites * ($sites - 1) * $each) AS t (i)
"""


def _count(wh: Warehouse, condition: str) -> int:
    with wh.cursor() as cursor:
        row = cursor.execute(COUNT + condition).fetchone()
    assert row is not None
    return int(row[0])


def test_a_day_and_a_pair_are_read_from_what_holds_them(own: Warehouse) -> None:
    """One day of three is one file of three; a pair lies in one part of its file, which is in the order of pairs."""
    for day in range(DAYS):
        at = NOW.replace(hour=0) - timedelta(days=DAYS - day)
        with own.transaction() as cursor:
            cursor.execute(PACKETS, {"day": day, "at": at, "sites": SITES, "each": EACH})
    day_of = NOW.replace(hour=0) - timedelta(days=2)
    times = f"sent_at >= TIMESTAMPTZ '{day_of.isoformat()}' AND sent_at < TIMESTAMPTZ '{(day_of + timedelta(days=1)).isoformat()}'"
    files = sorted((own.location / DATA / "main" / "ping_sample").rglob("*.parquet"))
    assert len(files) == DAYS
    for file in files:
        # The day is in the folder's name, for readers that know nothing of the catalog.
        assert {part.partition("=")[0] for part in file.parts if "=" in part} == {"year", "month", "day"}
        table, groups = pq.read_table(file, columns=["src", "dst", "sent_at"], partitioning=None), pq.ParquetFile(file).metadata
        keys = list(zip(*table.to_pydict().values(), strict=True))
        assert keys == sorted(keys)
        bounds = [groups.row_group(n).column(groups.schema.names.index("src")).statistics for n in range(groups.num_row_groups)]
        assert len(bounds) >= 2
        assert sum(one.min <= "s07" <= one.max for one in bounds) == 1
    # Without the files of the other days a question of this one has all that it needs.
    for file in files:
        if f"day={day_of.day}" not in file.parts and f"day={day_of.day:02d}" not in file.parts:
            file.unlink()
    assert _count(own, times) == PAIRS * EACH
    assert _count(own, f"{times} AND src = 's07' AND dst = 's09'") == EACH
    with pytest.raises(duckdb.IOException):
        _count(own, "true")
