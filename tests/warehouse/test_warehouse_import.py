"""Importing an RTT matrix: good rows in, bad rows kept with their reason, bad files refused with their line."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from warehouse_builders import NOW

from inventory.load import load
from records.errors import InputError, UserError
from records.place import Site, great_circle_km
from warehouse import Warehouse
from warehouse.importers import rtt_matrix
from warehouse.importers.rtt_matrix import ImportReport, check_files, import_files
from warehouse.importers.table import read_csv
from warehouse.ingest import Batch
from warehouse.maintain import verify
from warehouse.queries import link_estimates, measurement_counts, reject_counts, rejects, sites
from warehouse.store import Outcome, store

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
PLACES = {"sin": (1.35, 103.82), "fra": (50.11, 8.68), "iad": (39.04, -77.49)}
SITES = {name: Site(id=name, kind="pop", name=name, lat=lat, lon=lon) for name, (lat, lon) in PLACES.items()}


def _file(folder: Path, text: str | bytes, name: str = "m.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _import(wh: Warehouse, *files: Path, **options: object) -> ImportReport:
    return import_files(wh, files, **{"known_sites": SITES, "now": NOW, **options})  # type: ignore[arg-type]


def test_a_plain_matrix(wh: Warehouse, tmp_path: Path) -> None:
    """Rows become estimates, in ns, and the sites they name are known from then on."""
    report = _import(wh, _file(tmp_path, "src,dst,rtt_ms\nsin,fra,160.5\nfra,sin,161\n\nfra,iad,90\n"))
    assert report == ImportReport(read=3, stored=3, already=0, skipped=0, rejected={}, flagged={})
    links = {link.key: link for link in link_estimates(wh, now=NOW)}
    assert links["sin", "fra", "internet"].rtt_p50_ns == 160_500_000
    assert len(links) == 3
    assert {site.id for site in sites(wh)} == {"sin", "fra", "iad"}
    assert verify(wh) == []


def test_every_column(wh: Warehouse, tmp_path: Path) -> None:
    """All optional columns are read; empty ones are unknown; times without an offset are UTC."""
    header = "medium,at,loss_ratio,stddev_ms,p95_ms,p50_ms,min_ms,rtt_ms,dst,src"
    rows = ["backbone,2026-02-28T13:00:00+01:00,0.25,1.5,170,160,155,161,fra,sin", ",2026-02-28,,,,,,90,iad,fra"]
    _import(wh, _file(tmp_path, "\n".join([header, *rows])), medium="direct-connect")
    links = {link.key: link for link in link_estimates(wh, now=NOW)}
    one, other = links["sin", "fra", "backbone"], links["fra", "iad", "direct-connect"]
    assert (one.rtt_min_ns, one.rtt_p50_ns, one.rtt_p95_ns, one.loss_ratio) == (155_000_000, 160_000_000, 170_000_000, 0.25)
    assert one.age_s == 86400.0
    assert (other.rtt_min_ns, other.rtt_p50_ns, other.rtt_p95_ns, other.loss_ratio) == (None, 90_000_000, None, None)
    assert other.age_s == 129600.0


BAD_ROWS = {
    "missing_value": [",fra,1", "sin,,1", "sin,fra,"],
    "unknown_site": ["xxx,fra,1", "sin,SIN,1"],
    "same_site": ["sin,sin,1"],
    "bad_number": [
        "sin,fra,fast",
        "sin,fra,1_000",
        "sin,fra,nan",
        "sin,fra,inf",
        "sin,fra,1e999",
        "sin,fra,0x10",
        "sin,fra,١",
        "sin,fra,--",
    ],
    "negative": ["sin,fra,-1"],
    "zero_rtt": ["sin,fra,0", "sin,fra,0.0000001"],
    "out_of_range": ["sin,fra,600001"],
}


@pytest.mark.parametrize(("row", "reason"), [(row, reason) for reason, rows in BAD_ROWS.items() for row in rows])
def test_a_bad_row_costs_no_other(shared: Warehouse, tmp_path: Path, row: str, reason: str) -> None:
    """A bad row is kept with reason, file and line; the good ones around it are stored."""
    path = _file(tmp_path, f"src,dst,rtt_ms\nsin,fra,160\n{row}\nfra,iad,90\n")
    report = _import(shared, path)
    assert (report.read, report.stored, report.rejected) == (3, 2, {reason: 1})
    kept = next(row for row in rejects(shared).to_pylist() if row["source"] == str(path))
    assert (kept["source"], kept["line_number"], kept["reason"], kept["line"]) == (str(path), 3, reason, row)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("at", "yesterday", "bad_time"),
        ("at", "2027-01-01", "from_the_future"),
        ("medium", "pigeon", "bad_medium"),
        ("loss_ratio", "1.5", "out_of_range"),
        ("loss_ratio", "-0.1", "negative"),
        ("p95_ms", "x", "bad_number"),
        ("min_ms", "0", "zero_rtt"),
        ("stddev_ms", "-2", "negative"),
    ],
)
def test_bad_optional_values(shared: Warehouse, tmp_path: Path, column: str, value: str, reason: str) -> None:
    """What an optional column says wrongly is not read as unknown: the row is rejected."""
    report = _import(shared, _file(tmp_path, f"src,dst,rtt_ms,{column}\nsin,fra,160,{value}\n"))
    assert report.rejected == {reason: 1}


BAD_FILES = {
    "missing": (None, None, "no such file"),
    "empty": (b"", None, "is empty"),
    "blank": (b"\n \n", None, "is empty"),
    "binary": (b"src,dst,rtt_ms\nsin,f\x00ra,1\n", 2, "NUL byte"),
    "UTF-16": ("src,dst,rtt_ms\nsin,fra,1\n".encode("utf-16"), 1, "UTF-16"),
    "Latin-1": ("src,dst,rtt_ms\nsin,fra,1\nmünchen,fra,1\n".encode("latin-1"), 3, "0xfc is not UTF-8"),
    "no header": (b"sin,fra,160\n", 1, "has no column src"),
    "no rtt": (b"src,dst,loss_ratio\nsin,fra,0\n", 1, "has no column rtt_ms or p50_ms.*--map"),
    "a column twice": (b"src,dst,rtt_ms,src\nsin,fra,1,sin\n", 1, "'src' twice"),
    "a column without a name": (b"src,dst,rtt_ms,\nsin,fra,1,\n", 1, "column 4 of the header has no name"),
    "a ragged row": (b"src,dst,rtt_ms\nsin,fra,1\nsin,fra\n", 3, "2 fields and the header 3"),
    "too many fields": (b"src,dst,rtt_ms\nsin,fra,1,5\n", 2, "4 fields and the header 3"),
    "an open quote": (b'src,dst,rtt_ms\nsin,fra,1\n"sin,fra,1\n', 3, "not CSV"),
    "text after a quote": (b'src,dst,rtt_ms\n"sin"x,fra,1\n', 2, "not CSV"),
    "an endless field": (b"src,dst,rtt_ms\n" + b"x" * 200_000 + b",fra,1\n", 2, "not CSV"),
    "a character across blocks that is none": (
        b"src,dst,rtt_ms\n" + b"sin,fra,1\n" * 104_855 + b"sin,fra123\xc3(,1\n",
        104_857,
        "0xc3 is not",
    ),
    "a line without end": (b"src,dst,rtt_ms\n" + b"x" * (17 << 20), 2, "more than 16777216 bytes"),
    "semicolons": (b"src;dst;rtt_ms\nsin;fra;1\n", 1, "has no column src"),
}


@pytest.mark.parametrize(("content", "line", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_refused_with_its_line(
    shared: Warehouse, tmp_path: Path, content: bytes | None, line: int | None, message: str
) -> None:
    """Each way to be no matrix has its own sentence; nothing of any file of the command is stored."""
    good = _file(tmp_path, "src,dst,rtt_ms\nsin,fra,1\n", "good.csv")
    path = tmp_path / "bad.csv"
    if content is not None:
        path.write_bytes(content)
    before = shared.snapshot_id()
    with pytest.raises(InputError, match=message) as caught:
        _import(shared, good, path)
    assert (caught.value.path, caught.value.line) == (str(path), line)
    assert shared.snapshot_id() == before


def test_a_file_of_any_size_goes_in_by_chunks(wh: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that is broken off after its first chunk goes on from there, as one import; again, it changes nothing."""
    monkeypatch.setattr(rtt_matrix, "_CHUNK_ROWS", 2)
    rows = ["sin,fra,160", "fra,sin,161", "sin,xxx,1", "sin,fra,170", "iad,fra,90", "fra,iad,91", "iad,sin,200"]
    path = _file(tmp_path, "\n".join(["src,dst,rtt_ms", *rows]))
    stored: list[object] = []

    def break_off(wh: Warehouse, batches: Sequence[Batch]) -> list[Outcome]:
        if stored:
            raise KeyboardInterrupt
        stored.extend(batches)
        return store(wh, batches)

    with monkeypatch.context() as patched:
        patched.setattr(rtt_matrix, "store", break_off)
        with pytest.raises(KeyboardInterrupt):
            _import(wh, path)
    assert measurement_counts(wh)["rtt_matrix"] == 2
    later = NOW + timedelta(hours=1)
    rest = _import(wh, path, now=later)
    assert (rest.read, rest.stored, rest.already, rest.rejected) == (7, 4, 2, {"unknown_site": 1})
    before = wh.snapshot_id()
    again = _import(wh, path, now=later)
    assert (again.read, again.stored, again.already, again.rejected) == (7, 0, 6, {"unknown_site": 1})
    assert wh.snapshot_id() == before
    assert reject_counts(wh) == {"unknown_site": 1}
    # Both rows of sin > fra count, though an hour and a chunk lie between them.
    assert {link.key[:2]: link.rtt_p50_ns for link in link_estimates(wh, now=later)}["sin", "fra"] == 165_000_000
    assert verify(wh) == []


def test_progress_is_every_byte_of_every_pass(wh: Warehouse, tmp_path: Path) -> None:
    """What is told adds up to the size of the file for each time that it is read."""
    path = _file(tmp_path, "src,dst,rtt_ms\n" + "sin,fra,160\n" * 1000)
    told: list[int] = []
    check_files([path], progress=told.append)
    _import(wh, path, progress=told.append)
    assert sum(told) == rtt_matrix.PASSES * path.stat().st_size


def test_a_pipe_is_told_to_be_saved_first(shared: Warehouse, tmp_path: Path) -> None:
    """What can be read once only is not half imported."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is a pipe or a device; save it as a file first"):
        _import(shared, tmp_path / "pipe")


def test_a_folder_is_no_file(shared: Warehouse, tmp_path: Path) -> None:
    """A folder's name is the user's mistake."""
    with pytest.raises(InputError, match="is a folder"):
        _import(shared, tmp_path)


def test_a_file_as_spreadsheets_save_it(wh: Warehouse, tmp_path: Path) -> None:
    """A byte-order mark, quotes, spaces and Windows line ends are read; line numbers stay right."""
    path = _file(tmp_path, '\ufeffsrc, dst ,rtt_ms\r\n"sin", fra ,"160"\r\n"si\r\nn",fra,1\r\nsin,nowhere,1\r\n')
    report = _import(wh, path)
    assert (report.stored, report.rejected) == (1, {"unknown_site": 2})
    assert sorted(row["line_number"] for row in rejects(wh).to_pylist()) == [3, 5]


def test_the_same_file_again_changes_nothing_and_says_so(wh: Warehouse, tmp_path: Path) -> None:
    """The same content, also under another name and twice in one command, is stored once."""
    text = "src,dst,rtt_ms\nsin,fra,160\nsin,xxx,1\n"
    path = _file(tmp_path, text)
    assert _import(wh, path).stored == 1
    before = wh.snapshot_id()
    again = _import(wh, path, _file(tmp_path, text, "copy.csv"), now=NOW + timedelta(days=3))
    assert (again.read, again.stored, again.already, again.rejected) == (4, 0, 2, {"unknown_site": 2})
    assert wh.snapshot_id() == before
    assert reject_counts(wh) == {"unknown_site": 1}
    assert measurement_counts(wh)["rtt_matrix"] == 1


def test_the_same_file_with_more_sites_is_another_import(wh: Warehouse, tmp_path: Path) -> None:
    """Rows rejected for an unknown site are stored once the site is known."""
    path = _file(tmp_path, "src,dst,rtt_ms\nsin,fra,160\nsin,per,50\n")
    assert _import(wh, path).rejected == {"unknown_site": 1}
    known = {**SITES, "per": Site(id="per", kind="pop", name="Perth", lat=-31.9, lon=115.9)}
    assert _import(wh, path, known_sites=known, now=NOW + timedelta(hours=1)).stored == 2
    assert {link.key[:2] for link in link_estimates(wh, now=NOW + timedelta(days=1))} == {("sin", "fra"), ("sin", "per")}


def test_faster_than_light_is_stored_and_marked(wh: Warehouse, tmp_path: Path) -> None:
    """Below 98 % of the fibre floor is impossible: the row stays, counted, and its mark shows; least RTT before typical."""
    floor_ms = 2 * great_circle_km(SITES["sin"], SITES["fra"]) / (299_792.458 * 2 / 3) * 1000
    rows = [f"sin,fra,{floor_ms * 0.97:.6f},", f"fra,sin,{floor_ms * 0.99:.6f},", f"sin,iad,900,{floor_ms / 2:.6f}"]
    report = _import(wh, _file(tmp_path, "\n".join(["src,dst,rtt_ms,min_ms", *rows])))
    assert (report.stored, report.flagged) == (3, {"faster_than_light": 2})
    with wh.cursor() as cursor:
        marked = cursor.execute("SELECT src, dst, is_faster_than_light FROM imported_links ORDER BY ALL").fetchall()
    assert marked == [("fra", "sin", False), ("sin", "fra", True), ("sin", "iad", True)]


def test_mapping_and_filter(wh: Warehouse, tmp_path: Path) -> None:
    """Other names for columns, and rows of one kind only; what the filter leaves out is counted apart."""
    text = "from,to,tier,avg\nsin,fra,PREMIUM,160\nsin,fra,STANDARD,170\nsin,nowhere,STANDARD,1\n"
    report = _import(wh, _file(tmp_path, text), mapping={"src": "from", "dst": "to", "rtt_ms": "avg"}, where={"tier": "PREMIUM"})
    assert (report.read, report.stored, report.skipped, report.rejected) == (3, 1, 2, {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mapping": {"rtt": "x"}}, "cannot map 'rtt': the columns of an RTT matrix are src, dst"),
        ({"mapping": {"rtt_ms": "x"}}, "no column 'x' to map rtt_ms from; the header is src,dst,rtt_ms"),
        ({"where": {"tier": "x"}}, "no column 'tier' to filter by"),
        ({"medium": "pigeon"}, "'pigeon' is not one of internet, backbone, direct-connect"),
    ],
)
def test_bad_options(shared: Warehouse, tmp_path: Path, options: dict[str, object], message: str) -> None:
    """An option that fits nothing says what would."""
    with pytest.raises(UserError, match=message):
        _import(shared, _file(tmp_path, "src,dst,rtt_ms\nsin,fra,1\n"), **options)


def test_names_are_resolved(wh: Warehouse, tmp_path: Path) -> None:
    """A name that is no site id is looked up; what the look-up gives must itself be known."""
    names = {"Singapore": "sin", "Atlantis": "atl"}
    report = _import(wh, _file(tmp_path, "src,dst,rtt_ms\nSingapore,fra,160\nAtlantis,fra,1\n"), resolve=names.get)
    assert (report.stored, report.rejected) == (1, {"unknown_site": 1})


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200) | st.text(alphabet='src,dt_m\n\r"0123.-\ufeff', max_size=120).map(str.encode))
def test_any_file_is_read_or_refused(tmp_path: Path, data: bytes) -> None:
    """Whatever a file holds, reading it gives rows or an InputError."""
    path = _file(tmp_path, data)
    try:
        table = read_csv(path)
        rows = list(table.rows())
    except InputError:
        return
    assert all(len(fields) == len(table.header) for _, fields in rows)


def test_the_public_grid(wh: Warehouse) -> None:
    """The Skyplane grid goes in whole: read = stored + rejected, and the impossible rows are those an own computation finds."""
    path = SHARED / "skyplane" / "latency_2022-04.csv"
    if not path.exists():
        pytest.skip(f"the public grid is not at {path}")
    inventory = load()
    mapping = {"src": "src_region", "dst": "dst_region", "rtt_ms": "avg_rtt", "min_ms": "min_rtt", "stddev_ms": "mdev_rtt"}
    report = import_files(
        wh, [path], known_sites=inventory.sites, resolve=inventory.resolve, mapping=mapping, at=datetime(2022, 4, 16, tzinfo=UTC), now=NOW
    )
    impossible = same = 0
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            src, dst = (inventory.resolve(row[name]) for name in ("src_region", "dst_region"))
            assert src is not None
            assert dst is not None
            if src == dst:
                same += 1
            elif float(row["min_rtt"]) < 0.98 * 2 * great_circle_km(inventory.sites[src], inventory.sites[dst]) / (299.792458 * 2 / 3):
                impossible += 1
    assert report.read == 8010
    assert report.rejected == {"same_site": same}
    assert report.stored == 8010 - same
    assert report.flagged == {"faster_than_light": impossible}
    assert 200 < impossible < 300
    assert all(link.sample_count is None and link.evidence == "measured" for link in link_estimates(wh, now=NOW))
