"""What a warehouse needs as it grows older: few files, nothing kept beyond its time, nothing removed before it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from click.testing import CliRunner
from warehouse_builders import BOOT, NOW, ping, put, report, request, trace, transfer

from app.cli import root
from records.errors import UserError
from warehouse import Warehouse, connect, open_warehouse
from warehouse import migrate as migrations
from warehouse import store as stores
from warehouse.care import JOBS, Care
from warehouse.maintain import MERGE_FROM_FILES, clean_steps, status, tidy_steps, verify
from warehouse.queries import link_estimates, measurement_counts, ping_series
from warehouse.retention import expire_steps, kept, set_kept
from warehouse.rollup import rollup
from warehouse.statements import folder
from warehouse.store import insert

DAY = timedelta(days=1)


def _all(wh: Warehouse, query: str) -> list[tuple[object, ...]]:
    with wh.cursor() as cursor:
        rows: list[tuple[object, ...]] = cursor.execute(query).fetchall()
        return rows


def _files(wh: Warehouse) -> dict[str, int]:
    return {table.name: table.file_count for table in status(wh).tables}


def _live_through(wh: Warehouse, *, days: int, commits: int, between: int) -> dict[str, int]:
    """Commit by commit through days of the collector's life, its jobs' turn every `between` commits; the most files a table ever had."""
    most: dict[str, int] = {}
    for n in range(days * commits):
        at = NOW + n // commits * DAY + timedelta(seconds=n % commits)
        put(wh, ping(n, [1000 + n, None], at=at), ping(10**6 + n, [2000], at=at, dst="nrt"), trace(2 * 10**6 + n, at=at), received_at=at)
        if n % between == between - 1:
            most = {name: max(count, most.get(name, 0)) for name, count in _files(wh).items()}
            rollup(wh, now=at)
            for _ in tidy_steps(wh):
                pass
    rollup(wh, now=at)
    return most


@pytest.mark.slow
def test_small_files_are_bounded(own: Warehouse) -> None:
    """One commit after the other, across midnight: never more files of a day than came since the last turn and a merge waits for."""
    most = _live_through(own, days=2, commits=12, between=9)
    assert max(most.values()) <= 2 * (9 + MERGE_FROM_FILES)
    assert max(_files(own).values()) <= 2 * MERGE_FROM_FILES
    assert _all(own, "SELECT count(*), count(DISTINCT measurement_id) FROM ping_sample") == [(72, 48)]
    assert _all(own, "SELECT sum(sent_count)::BIGINT FROM rollup_minute") == [(72,)]
    assert verify(own) == []


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_a_week_of_commits(own: Warehouse) -> None:
    """Seven days, of every day 72 one-second commits with four of the collector's turns: the files of a table stay bounded by the days."""
    most = _live_through(own, days=7, commits=72, between=18)
    assert max(most.values()) <= 18 + 7 * (MERGE_FROM_FILES + 1)
    assert max(_files(own).values()) <= 7 * (MERGE_FROM_FILES + 1)
    assert _all(own, "SELECT count(*) FROM ping_sample") == [(7 * 72 * 3,)]
    assert _all(own, "SELECT sum(sent_count)::BIGINT FROM rollup_minute") == [(7 * 72 * 3,)]
    assert verify(own) == []


def test_what_is_over_goes_and_the_roll_ups_stay(own: Warehouse) -> None:
    """Raw rows go once they are rolled up, minutes once their hours are made; the answers stay, and say what they are made of."""
    old, new = NOW - 100 * DAY, NOW
    put(own, ping(1, [3_000_000, 5_000_000, None], at=old - timedelta(minutes=1)), received_at=old)
    put(own, ping(2, [7_000_000], at=new - timedelta(minutes=1)), received_at=new)
    later = NOW + timedelta(hours=2)
    (raw, *_) = expire_steps(own, now=later)
    assert (raw.table, raw.row_count, raw.waits) == ("ping_sample", 3, "not all of it is in the roll-ups yet")
    rollup(own, now=later)
    before = own.snapshot_id()
    dry = [(one.table, one.row_count, one.waits) for one in expire_steps(own, now=later, dry_run=True) if one.row_count]
    assert dry == [("ping_sample", 3, None), ("rollup_minute", 1, None)]
    assert own.snapshot_id() == before
    (link,) = link_estimates(own, now=NOW, grain="raw")
    assert [(one.table, one.row_count, one.waits) for one in expire_steps(own, now=later) if one.row_count] == dry
    assert _all(own, "SELECT count(*) FROM ping_sample") == [(1,)]
    assert [one for one in expire_steps(own, now=later) if one.row_count] == []
    (kept_link,) = link_estimates(own, now=NOW)
    assert (kept_link.grain, kept_link.sample_count, kept_link.rtt_min_ns, kept_link.loss_ratio) == ("day", 3, 3_000_000, 0.25)
    assert kept_link.histogram == link.histogram
    series = ping_series(own, "sin", "fra", "internet", start=old - DAY, end=old + DAY, bucket_count=48)
    assert (sum(series["sent"].to_pylist()), series["grain"][0].as_py()) == (3, "hour")
    (fresh,) = link_estimates(own, now=NOW, window=timedelta(hours=1))
    assert (fresh.grain, fresh.rtt_p50_ns) == ("raw", 7_000_000)
    # A packet of that time that comes now joins its hour once.
    put(own, ping(3, [1_000_000], at=old - timedelta(minutes=2)), received_at=new)
    rollup(own, now=later)
    rollup(own, now=later)
    assert link_estimates(own, now=NOW)[0].sample_count == 4
    assert verify(own) == []


def test_old_versions_are_thinned_to_one_a_minute(own: Warehouse) -> None:
    """Every version of the last two hours stays, then the last of each minute, for as many days as asked; nothing else is lost."""
    for n in range(8):
        put(own, ping(n, [1000]))
    with own.cursor() as cursor:
        ids = [number for (number,) in cursor.execute("SELECT snapshot_id FROM wh.snapshots() ORDER BY 1").fetchall()]
        # The last eight: two of one minute and one of the next, over a day ago; the same, hours ago; and two of this hour.
        minute = datetime.now(UTC).replace(second=0, microsecond=0)
        ages = [timedelta(hours=30), timedelta(hours=3)]
        made = [minute - age + timedelta(seconds=s) for age in ages for s in (10, 50, 70)] + [minute - timedelta(minutes=90)] * 2
        for number, at in zip(ids, [minute - timedelta(hours=40)] * (len(ids) - 8) + made, strict=True):
            cursor.execute("UPDATE __ducklake_metadata_wh.ducklake_snapshot SET snapshot_time = ? WHERE snapshot_id = ?", [str(at), number])
    assert next(clean_steps(own, snapshot_days=1)) == f"snapshots {len(ids) - 4}"
    with own.cursor() as cursor:
        left = [number for (number,) in cursor.execute("SELECT snapshot_id FROM wh.snapshots() ORDER BY 1").fetchall()]
        assert left == [ids[-4], *ids[-3:]]
    assert _all(own, f"FROM ping_sample AT (VERSION => {left[0]}) SELECT count(*)") == [(5,)]
    assert _all(own, "SELECT count(*) FROM ping_sample") == [(8,)]
    assert verify(own) == []


def test_retention_is_a_setting(own: Warehouse) -> None:
    """Days or for ever, by name; raw rows not longer than what rests on them; a mistake changes nothing."""
    assert {kind.name: kind.keep_days for kind in kept(own)} == {"raw": 30, "minute": 90, "hour": 1830, "records": 400, "snapshots": 1}
    found = set_kept(own, {"raw": 10, "hour": None})
    assert {kind.name: kind.keep_days for kind in found} == {"raw": 10, "minute": 90, "hour": None, "records": 400, "snapshots": 1}
    for new, message in (
        ({"rwa": 5}, "there is no retention 'rwa'; there are hour, minute, raw, records, snapshots"),
        ({"raw": 0}, "raw=0: keep it for 1 to 36500 days, or forever"),
        ({"raw": 100}, "raw would be kept for 100 days and minute only for 90; keep minute at least as long as raw"),
        ({"minute": None, "hour": 1000}, "minute would be kept for ever and hour only for 1000"),
    ):
        with pytest.raises(UserError, match=message):
            set_kept(own, new)
    assert kept(own) == found


def test_the_commands(own: Warehouse) -> None:
    """compact, expire, retention, rollup and status as a script calls them."""
    for n in range(3):
        put(own, ping(n, [1000], at=NOW - 40 * DAY), received_at=NOW - 40 * DAY)

    def run(*arguments: str) -> object:
        result = CliRunner().invoke(root, ["warehouse", *arguments, "--json", "--warehouse", str(own.location)], standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return json.loads(result.stdout)

    assert run("rollup") == {"rollup_minute": 1, "rollup_hour": 1, "rollup_day": 1}
    compacted = run("compact")
    assert isinstance(compacted, dict)
    assert (_files(own)["ping_sample"], "merge ping_sample" in compacted["steps"]) == (1, True)
    assert set(compacted["removed"]) == {"snapshots", "files", "orphans"}
    assert run("retention", "raw=200", "minute=200")[2]["keep_days"] == 200  # type: ignore[index]
    dry = run("expire", "--dry-run")
    assert isinstance(dry, dict)
    assert {one["table"]: one["row_count"] for one in dry["expired"]}["ping_sample"] == (
        3 if datetime.now(NOW.tzinfo) - NOW > 160 * DAY else 0
    )
    found = run("status")
    assert isinstance(found, dict)
    assert (found["retention"]["raw"], found["unrolled_commits"] > 0) == (200, True)
    with pytest.raises(UserError, match="'raw' is not NAME=DAYS, as in raw=14 or hour=forever"):
        run("retention", "raw")


def test_every_job_gets_its_turn(own: Warehouse) -> None:
    """Each job runs in bounded steps when it is due; one that fails does not keep the others back."""
    put(own, ping(1, [1000]))
    care = Care(own, scale=0.0, clock=lambda: NOW + timedelta(hours=2))
    assert care.is_due(is_idle=True)
    for _ in range(60):
        care.step()
    assert set(care.seconds) == {job.name for job in JOBS}
    assert _all(own, "SELECT count(*) FROM rollup_hour") == [(1,)]
    assert care.longest_s > 0
    assert not Care(own).is_due(is_idle=True)
    assert (care.failures, care.failing) == ({}, {})


def test_what_fails_is_counted_and_said_until_it_works(own: Warehouse) -> None:
    """By job, with the error; the others go on."""
    put(own, ping(1, [1000]))
    with own.transaction() as cursor:
        cursor.execute("ALTER TABLE rollup_mark RENAME TO elsewhere")
    care = Care(own, scale=0.0, clock=lambda: NOW + timedelta(hours=2))
    for _ in range(30):
        care.step()
    assert care.failures["rollup"] >= 1
    assert "rollup_mark" in care.failing["rollup"]
    with own.transaction() as cursor:
        cursor.execute("ALTER TABLE elsewhere RENAME TO rollup_mark")
    for _ in range(30):
        care.step()
    assert "rollup" not in care.failing


def test_what_was_read_before_is_let_go_of(own: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckLake keeps the statistics of each snapshot it has seen: the warehouse is opened anew, and who is at work goes on."""

    def held() -> int:
        return dict(_all(own, "SELECT tag, memory_usage_bytes FROM duckdb_memory()"))["OBJECT_CACHE"]  # type: ignore[return-value,arg-type]

    put(own, ping(0, [1000]))
    assert not own.shed()
    first = held()
    for n in range(1, 12):
        put(own, ping(n, [1000]))
    grown = held()
    assert grown > first, "DuckLake lets go of them by itself: Warehouse.shed is no longer needed"
    monkeypatch.setattr(connect, "_KEPT_MB", {"OBJECT_CACHE": (first + grown) / 2e6})
    with own.cursor() as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM ping_sample").fetchone() == (12,)
        assert own.shed()
        put(own, ping(12, [1000]))
        assert held() < grown
        assert not own.shed()
        assert reader.execute("SELECT count(*) FROM ping_sample").fetchone() == (12,)  # its snapshot
    assert _all(own, "SELECT count(*) FROM ping_sample") == [(13,)]
    assert _all(own, "SELECT memory_usage_bytes FROM duckdb_memory() WHERE tag = 'EXTERNAL_FILE_CACHE'") == [(0,)]


#: The schema of the first version that people may have data in, by the hashes of its files: files of applied migrations never change.
_FIRST = {
    "001_tables": "1910f7b80a9967a67855354ed4b0d3128bb2c0cbb8f91bf419b8ef9011b01bb1",
    "002_macros": "dfc287b2649cd054c673e4d38951a779320b733ccd4b8e9b32824ebc9a9b43aa",
    "003_settings": "db997c318a31f9084032b5f0ba70634be00b448d6d1a86bd74b7c456fc4c8c18",
}


def _insert_what_was_known(cursor: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
    """Insert the columns that the table has in an older version: what rows have come to say since is left out."""
    known = {row[0] for row in cursor.execute(f"DESCRIBE {name}").fetchall()}
    insert(cursor, name, table.select([column for column in table.column_names if column in known]))


def test_a_warehouse_of_the_first_version_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made with the first schema and filled, then opened by this version: every row is there, and is rolled up."""
    texts = dict(folder("schema"))
    assert [name for name, digest in _FIRST.items() if sha256(texts[name].encode()).hexdigest() != digest] == []
    first = [(name, texts[name]) for name in _FIRST]
    views = [(name, text) for name, text in folder("views") if "http" not in text and "stamp" not in text and "serving" not in text]
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "folder", lambda name: first if name == "schema" else views)
        patch.setattr(stores, "insert", _insert_what_was_known)
        with open_warehouse(tmp_path / "kept", mode="write") as wh:
            for n in range(3):
                put(wh, ping(n, [1_000_000 + n, None]), trace(10 + n), transfer(20 + n, 10**6), request(30 + n, 10**7))
                put(wh, report(NOW))
            tables = ("ping_sample", "traceroute", "throughput", "inference", "agent_status", "batch", "site", "reject", "rtt_matrix")
            of = {name: ", ".join(row[0] for row in _all(wh, f"DESCRIBE {name}")) for name in tables}
            query = " UNION ALL ".join(f"(FROM {name} SELECT '{name}', count(*), bit_xor(hash({of[name]})))" for name in tables)
            before = _all(wh, query)
    with pytest.raises(UserError, match="is of an older version"):
        open_warehouse(tmp_path / "kept")
    with open_warehouse(tmp_path / "kept", mode="write") as wh:
        assert _all(wh, query) == before
        applied = [row[0] for row in _all(wh, "SELECT name FROM schema_migration WHERE name <> 'views' ORDER BY applied_at, name")]
        assert applied == [name for name, _ in folder("schema")]
        rollup(wh, now=NOW + timedelta(hours=2))
        assert _all(wh, "SELECT sum(sent_count)::BIGINT, sum(lost_count)::BIGINT FROM rollup_hour WHERE probe_type = 'ping'") == [(6, 3)]
        put(wh, ping(100, [5], id=f"{BOOT}-100"))
        assert measurement_counts(wh)["ping"] == 4
        for _ in (*tidy_steps(wh, least=2), *clean_steps(wh, snapshot_days=1)):
            pass
        assert [row for row in _all(wh, query) if row[0] in {"traceroute", "throughput"}] == [
            row for row in before if row[0] in {"traceroute", "throughput"}
        ]
        assert verify(wh) == []
