"""Names that somebody else chose: they make no file elsewhere, no statement, no line of a log and no command of a terminal."""

from __future__ import annotations

import asyncio
import io
import json
import os
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from warehouse_builders import ping, put

from app.cli import root
from probes.client import CollectorClient
from records.batch import BatchName
from records.errors import UserError
from records.texts import one_line, printable
from warehouse import Warehouse, open_warehouse
from warehouse.backup import backup
from warehouse.export import export
from warehouse.queries import measurement_counts
from warehouse.restore import restore

EVIL = [
    "../../evil", "/etc/evil", "a/../../evil", "'; DROP TABLE ping_sample; --", "\x1b[2J\x1b]0;owned\x07", "sin\r\nERROR forged",
    "\u202egnp.exe", "\x9b31m",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with measurements to sites of such names."""
    folder = tmp_path_factory.mktemp("files") / "kept"
    with open_warehouse(folder, mode="write") as wh:
        put(wh, *[ping(n, [1000], dst=name, target=name) for n, name in enumerate(EVIL)])
    return folder


@pytest.fixture(scope="module")
def wh(place: Path) -> Iterator[Warehouse]:
    """It."""
    with open_warehouse(place) as opened:
        yield opened


def isochrone(*argv: object) -> Result:
    return CliRunner().invoke(root, [str(word) for word in argv])


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_names_make_no_files_and_no_statements(wh: Warehouse, place: Path) -> None:
    """All rows are there under their names, and all files where the warehouse's are."""
    assert measurement_counts(wh)["ping"] == len(EVIL)
    assert everything(place.parent) == {place, *everything(place)}
    assert {path.name for path in place.iterdir()} <= {
        "catalog.sqlite",
        "catalog.sqlite-wal",
        "catalog.sqlite-shm",
        "data",
        "writer.lock",
        "open.lock",
    }
    assert not [path for path in everything(place / "data") if "evil" in path.name]


def modes(folder: Path) -> dict[str, int]:
    """Of a folder or file and everything below, links aside."""
    return {
        str(path.relative_to(folder.parent)): path.stat().st_mode & 0o777 for path in (folder, *everything(folder)) if not path.is_symlink()
    }


@pytest.mark.parametrize(
    ("umask", "file", "made"),
    [
        (0o000, 0o660, 0o750),
        pytest.param(0o022, 0o640, 0o750, marks=pytest.mark.slow),
        pytest.param(0o077, 0o600, 0o700, marks=pytest.mark.slow),
    ],
)
def test_copies_are_closed_to_other_users(place: Path, wh: Warehouse, tmp_path: Path, umask: int, file: int, made: int) -> None:
    """A backup, what is restored of it and an export, whatever the umask: files without a right for others, folders of a backup 0750."""
    before = os.umask(umask)
    try:
        backup(str(place), tmp_path / "new" / "safe", now=datetime.now(UTC))
        backup(str(place), tmp_path / "new" / "safe", now=datetime.now(UTC))
        restore(tmp_path / "new" / "safe", str(tmp_path / "back"))
        export(wh, tmp_path / "x.duckdb")
        (tmp_path / "y.duckdb").write_text("what all could read")
        export(wh, tmp_path / "y.duckdb", force=True)
    finally:
        os.umask(before)
    kept = modes(tmp_path / "new")
    assert {"new/safe/backup.json", "new/safe/catalog.sqlite", "new/safe/writer.lock", "new/safe/data/main"} <= kept.keys()
    assert {name: mode for name, mode in kept.items() if mode != (made if (tmp_path / name).is_dir() else file)} == {}
    for folder in (tmp_path / "back", tmp_path / "x.duckdb", tmp_path / "y.duckdb"):
        assert {name: mode for name, mode in modes(folder).items() if mode & 0o007} == {}


@pytest.mark.parametrize("name", ["x'; ATTACH '{out}' AS y; --.duckdb", '-a"b$(touch {out}).duckdb'])
def test_an_export_is_a_file_of_the_very_name_given(wh: Warehouse, tmp_path: Path, name: str) -> None:
    """Quotes, dashes and commands in it are letters."""
    file = tmp_path / name.format(out="pwned").replace("/", "_")
    export(wh, file)
    assert {path.name for path in tmp_path.iterdir()} == {file.name}


def test_an_export_goes_nowhere_else(wh: Warehouse, place: Path, tmp_path: Path) -> None:
    """Over nothing that is there, into no folder that is not, not through a link that hangs, and not into the warehouse's place."""
    (tmp_path / "kept.txt").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "x")
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for target in (tmp_path / "kept.txt", tmp_path / "no" / ".." / ".." / "evil.duckdb", tmp_path / "none" / "x.duckdb", place):
        with pytest.raises(UserError):
            export(wh, target)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    assert not (tmp_path.parent / "evil.duckdb").exists()


def archive(kind: str) -> bytes:
    """One whose members would go elsewhere if it were unpacked."""
    made = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(made, "w") as packed:
            packed.writestr("../../evil.csv", "src,dst,rtt_ms\nsin,fra,1\n")
            packed.writestr("/tmp/evil.csv", "src,dst,rtt_ms\nsin,fra,1\n")
        return made.getvalue()
    with tarfile.open(fileobj=made, mode="w:gz" if kind == "tar.gz" else "w") as packed:
        for name in ("../../evil.csv", "/tmp/evil.csv"):
            member = tarfile.TarInfo(name)
            member.size = 4
            packed.addfile(member, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(link)
    return made.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("format_name", ["rtt-matrix", "ripe-atlas", "mtr"])
def test_an_archive_is_not_unpacked(tmp_path: Path, kept: Path, kind: str, format_name: str) -> None:
    """It is a file of the wrong kind: nothing of it is stored, and nothing is written beside the warehouse."""
    file = tmp_path / f"x.{kind}"
    file.write_bytes(archive(kind))
    done = isochrone("import", format_name, file, "--warehouse", kept, "--json")
    stored = json.loads(done.stdout)["stored"] if done.stdout.strip().startswith("{") else 0
    assert stored == 0, done.output
    assert {path.name for path in tmp_path.iterdir()} <= {file.name, "kept"}
    assert not (tmp_path.parent.parent / "evil.csv").exists()
    assert not Path("/tmp/evil.csv").exists()


@pytest.mark.parametrize("path", ["/proc/self/environ", "/dev/null", "/etc/passwd"])
def test_an_import_of_what_is_no_measurement_keeps_nothing_of_it(kept: Path, path: str) -> None:
    """Whoever may import may read files himself; of one that is none a reject is kept, and no measurement."""
    done = isochrone("import", "ripe-atlas", path, "--warehouse", kept, "--json")
    assert not done.stdout.strip().startswith("{") or json.loads(done.stdout)["stored"] == 0


def test_a_terminal_is_not_steered(place: Path) -> None:
    """The table of `isochrone sql`, of `links` and of whatever else lists names: no control character but line ends, a row a line."""
    for argv in (["sql", "SELECT DISTINCT dst, target FROM ping_sample"], ["links"]):
        done = isochrone(*argv, "--warehouse", place)
        assert done.exit_code == 0, (done.output, done.exception)
        assert all(line.isprintable() for line in done.stdout.split("\n")), done.stdout
        assert "ERROR forged" not in [line.strip() for line in done.stdout.split("\n")]
    exact = isochrone("sql", "SELECT DISTINCT dst FROM ping_sample", "--warehouse", place, "--format", "json")
    assert {row["dst"] for row in json.loads(exact.stdout)} == set(EVIL), "as data they are what they are"


@pytest.mark.parametrize("text", EVIL[4:])
def test_a_text_from_elsewhere_is_one_printable_line(text: str) -> None:
    """What a log line or a cell is made of."""
    assert printable(text).isprintable()
    assert "\n" not in one_line(text)
    assert printable("Zürich → 東京 · 1 ms") == "Zürich → 東京 · 1 ms"


class _Evil(BaseHTTPRequestHandler):
    """Somebody who sits where a collector should."""

    def do_POST(self) -> None:
        body = b"no\r\nERROR forged line\x1b[2J"
        self.send_response(503)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", "99999999999999999999")
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(200):
            self.wfile.write(b"x" * (1 << 16))

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_who_sits_where_a_collector_should_forges_no_line_and_fills_no_memory() -> None:
    """An answer with line ends and escapes is one line; one without end is cut off at 4 MB; a pause without end is ten minutes."""
    server = HTTPServer(("127.0.0.1", 0), _Evil)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    async def ask() -> None:
        client = CollectorClient(f"http://127.0.0.1:{server.server_port}")
        try:
            answer = await client.send(BatchName("a", "b", 0), b"x")
            assert (answer.status, answer.text.isprintable(), answer.retry_after_s) == (503, True, 600)
            with pytest.raises(Exception, match="is larger than 4194304 bytes"):
                await client.ready()
        finally:
            await client.close()

    try:
        asyncio.run(ask())
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
