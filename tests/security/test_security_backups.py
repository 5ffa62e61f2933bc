"""A backup that somebody else could write to: its digests made anew, so that only what it names can tell. Nothing is written but what it
is for, and who restores it is told in a sentence.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from warehouse_builders import NOW, ping, put, trace

from app.cli import root
from records.errors import InputError, IsochroneError, OutsideError
from warehouse import open_warehouse
from warehouse.backup import backup
from warehouse.export import export
from warehouse.maintain import status, tidy, verify
from warehouse.restore import restore

#: A table's name that ends the one that a statement is made of, and what would be written then.
EVIL = """site" LIMIT 1; COPY (SELECT 'pwned') TO '{out}'; SELECT 0 AS c, 0 AS d FROM wh.main."site"""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of a warehouse with a little in it."""
    folder = tmp_path_factory.mktemp("sound")
    with open_warehouse(folder / "kept", mode="write") as wh:
        put(wh, ping(1, [1_000_000]), trace(2))
    backup(str(folder / "kept"), folder / "safe", now=NOW)
    return folder / "safe"


@pytest.fixture
def tampered(sound: Path, tmp_path: Path) -> Callable[..., Path]:
    """What makes a copy of it that is not what was backed up, by a change of backup.json or a statement for the catalog."""

    def make(change: Callable[[dict[str, Any]], object] = lambda _: None, statement: str = "", *values: object) -> Path:
        made = tmp_path / "in" / "some" / "safe"
        shutil.copytree(sound, made)
        manifest = json.loads((made / "backup.json").read_text())
        if statement:
            with closing(sqlite3.connect(made / "catalog.sqlite")) as catalog, catalog:
                catalog.execute(statement, values)
            manifest["catalog_sha256"] = sha256((made / "catalog.sqlite").read_bytes()).hexdigest()
        change(manifest)
        (made / "backup.json").write_text(json.dumps(manifest))
        return made

    return make


def everything(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "safe" not in path.parts}


ELSEWHERE = [
    *("../../../../pwned.parquet", "{folder}/pwned.parquet", "main/../../x.parquet", "./x.parquet", "main//x.parquet", "../backup.json"),
    *("x.sh", "s3://bucket/x.parquet", "*.parquet", "a\nb.parquet", "a\\b.parquet", ""),
]


@pytest.mark.parametrize("path", ELSEWHERE)
def test_a_file_that_lies_elsewhere(tampered: Callable[..., Path], tmp_path: Path, path: str) -> None:
    """Refused by its name, by the program and by its commands, and nothing is written."""
    path = path.format(folder=tmp_path)
    made = tampered(lambda manifest: manifest["files"].update({path: [5, sha256(b"pwned").hexdigest()]}))
    (tmp_path / "pwned.parquet").write_bytes(b"pwned")  # ../../../../pwned.parquet of data/
    before = everything(tmp_path)
    target = tmp_path / "deep" / "er" / "back"
    with pytest.raises(InputError, match="is no Parquet file below data/"):
        restore(made, str(target))
    for argv in (["backup", str(made), "--check"], ["restore", str(made), "--warehouse", str(target)]):
        assert isinstance(CliRunner().invoke(root, ["warehouse", *argv]).exception, InputError)
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"catalog": "../../secret"}, "names the catalog"),
        ({"catalog": "/etc/passwd"}, "names the catalog"),
        ({"catalog": None}, "lacks something"),
        ({"row_counts": []}, "lacks something"),
        ({"files": {"x.parquet": [-1, "0" * 64]}}, "cannot be"),
        ({"files": {"x.parquet": [1, "x"]}}, "cannot be"),
        ({"files": {}}, "do not name the same files"),
    ],
)
def test_what_a_backup_says_of_itself(tampered: Callable[..., Path], tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """A catalog elsewhere, texts that are none, sizes that cannot be, files that the catalog does not name or that are missing."""
    made = tampered(lambda manifest: manifest.update(change))
    with pytest.raises(IsochroneError, match=message):
        restore(made, str(tmp_path / "back"))
    assert not (tmp_path / "back").exists()


def test_a_file_that_the_catalog_does_not_name_or_that_is_a_link(tampered: Callable[..., Path], tmp_path: Path) -> None:
    """A file beside, and one that is another's: neither gets into a warehouse."""
    made = tampered(lambda manifest: manifest["files"].update({"more.parquet": [5, sha256(b"pwned").hexdigest()]}))
    (made / "data" / "more.parquet").write_bytes(b"pwned")
    with pytest.raises(OutsideError, match=r"do not name the same files \(1 differ, more.parquet is one\)"):
        restore(made, str(tmp_path / "back"))
    (tmp_path / "secret").write_bytes(b"pwned")
    (made / "data" / "more.parquet").unlink()
    (made / "data" / "more.parquet").symlink_to(tmp_path / "secret")
    with pytest.raises(OutsideError, match="is a link to somewhere else"):
        restore(made, str(tmp_path / "back"))
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("statement", "value", "message"),
    [
        ("UPDATE ducklake_table SET table_name = ? WHERE table_name = 'batch'", EVIL, "has a table called"),
        ("UPDATE ducklake_data_file SET path = ?, path_is_relative = 0", "/etc/hosts.parquet", "not below its data path"),
        ("DELETE FROM ducklake_metadata WHERE key <> ?", "version", "is no catalog of a warehouse"),
        ("DROP TABLE ducklake_data_file", None, "is no catalog of a warehouse"),
    ],
)
def test_names_in_the_catalog_make_no_statement(
    tampered: Callable[..., Path], tmp_path: Path, statement: str, value: str | None, message: str
) -> None:
    """Told before anything is written."""
    out, name = tmp_path / "pwned.txt", (value or "").format(out=tmp_path / "pwned.txt")

    def rename(manifest: dict[str, Any]) -> None:
        if "called" in message:
            manifest["row_counts"][name] = manifest["row_counts"].pop("batch")

    made = tampered(rename, statement, *([] if value is None else [name]))
    with pytest.raises(OutsideError, match=message):
        restore(made, str(tmp_path / "back"))
    assert not out.exists()
    assert not (tmp_path / "back").exists()


def test_a_table_of_any_name_is_a_name(tmp_path: Path) -> None:
    """What reads, counts, maintains and exports a warehouse takes a table's name for one; a backup of it is not made."""
    out, kept = tmp_path / "pwned.txt", tmp_path / "kept"
    name = EVIL.format(out=out)
    with open_warehouse(kept, mode="write") as wh:
        with wh.transaction() as cursor:
            quoted = name.replace('"', '""')
            cursor.execute(f'CREATE TABLE "{quoted}" ("a"" FROM x" INTEGER)')
            cursor.execute(f'INSERT INTO "{quoted}" VALUES (7)')  # noqa: S608 - what is tried
            cursor.execute(f'COMMENT ON COLUMN "{quoted}"."a"" FROM x" IS \'it\'\'s one\'')
        assert verify(wh) == []
        tidy(wh)
        assert {table.name: table.row_count for table in status(wh).tables}[name] == 1
        assert export(wh, tmp_path / "x.duckdb").row_counts[name] == 1
    with pytest.raises(OutsideError, match=r"has a table called .* rename or drop it"):
        backup(str(kept), tmp_path / "safe", now=NOW)
    assert not out.exists()
