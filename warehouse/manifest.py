"""backup.json: what a backup says of itself. Whoever can write to the folder can write it, its digests too: no name in it is taken as it
stands, for files are read and written by them and statements made of them.
"""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from records.errors import InputError, OutsideError, WarehouseMissing
from warehouse.lake_files import is_inside, needed_by
from warehouse.place import CATALOG, DATA

__all__ = ["DUMP", "FORMAT", "MANIFEST", "Backup", "check_files", "check_links", "check_names", "read_backup"]

MANIFEST = "backup.json"
DUMP = "catalog.dump"
FORMAT = 1
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What is in a backup; files: path below data/ -> (bytes, SHA-256)."""

    source: str
    catalog: str
    catalog_sha256: str
    snapshot_id: int
    schema: str
    made_at: str
    made_by: str
    row_counts: dict[str, int]
    files: dict[str, tuple[int, str]] = field(repr=False)
    format: int = FORMAT

    @property
    def file_bytes(self) -> int:
        """Of all Parquet files."""
        return sum(size for size, _ in self.files.values())


def read_backup(folder: Path) -> Backup:
    """What a folder says of itself. Raises WarehouseMissing when it is no backup, InputError when it cannot be understood or names files
    elsewhere.
    """
    file = folder / MANIFEST
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise WarehouseMissing(f"{folder} is no backup (it has no {MANIFEST}); `isochrone warehouse backup {folder}` makes one") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(file, None, f"cannot be read: {error}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(file, None, "was made by another version of isochrone; restore it with that one")
    try:
        found = Backup(**{**document, "files": {path: (int(size), str(digest)) for path, (size, digest) in document["files"].items()}})
        counts = {name: int(rows) for name, rows in found.row_counts.items()}
        texts = (found.source, found.catalog, found.catalog_sha256, found.schema, found.made_at, found.made_by)
        is_sound = counts == found.row_counts and all(isinstance(text, str) for text in texts) and isinstance(found.snapshot_id, int)
    except (TypeError, ValueError, KeyError, AttributeError):
        is_sound = False
    if not is_sound:
        raise InputError(file, None, "lacks something that a backup says of itself; take another copy of it")
    if found.catalog not in {CATALOG, DUMP}:
        raise InputError(file, None, f"names the catalog {found.catalog!r}, and a backup's is {CATALOG} or {DUMP}; take another copy of it")
    for path, (size, digest) in found.files.items():
        if not is_inside(path):
            raise InputError(file, None, f"names {path!r}, which is no Parquet file below {DATA}/; restore backups of your own only")
        if size < 0 or not _DIGEST.fullmatch(digest):
            raise InputError(
                file, None, f"says of {path} {size} bytes and the SHA-256 {digest!r}, which cannot be; take another copy of it"
            )
    return found


def check_links(folder: Path, found: Backup) -> None:
    """Raises OutsideError when a file that backup.json names lies behind a link that leads out of `data/`."""
    data = (folder / DATA).resolve()
    for path in found.files:
        if not (folder / DATA / path).resolve().is_relative_to(data):
            raise OutsideError(f"{folder / DATA / path} is a link to somewhere else, and a backup has none; take another copy of it")


def check_files(folder: Path, found: Backup) -> None:
    """Hold the files that backup.json names against those that the catalog beside it does; a dump says nothing before it is restored.

    Raises OutsideError when they are not the same, or when a table has an impossible name.
    """
    if found.catalog != CATALOG:
        return
    try:
        named = {file.path: file.size_bytes for file in needed_by(folder / CATALOG)}
        with closing(sqlite3.connect(f"file:{folder / CATALOG}?mode=ro", uri=True)) as connection:
            check_names([str(name) for (name,) in connection.execute("SELECT DISTINCT table_name FROM ducklake_table").fetchall()])
    except (sqlite3.Error, TypeError, ValueError) as error:
        raise OutsideError(f"{folder / CATALOG} is no catalog of a warehouse: {error}; take another copy of the backup") from error
    said = {path: size for path, (size, _) in found.files.items()}
    if odd := {path for path, _ in named.items() ^ said.items()}:
        raise OutsideError(
            f"{folder / MANIFEST} and {CATALOG} do not name the same files ({len(odd)} differ, {min(odd)} is one); "
            "take another copy of the backup"
        )


def check_names(names: list[str]) -> None:
    """Raises OutsideError for a table whose name has signs that end names in SQL: no version of isochrone makes one."""
    for name in names:
        if not name.isprintable() or not name or set(name) & set("\"';\\"):
            raise OutsideError(f"the catalog has a table called {name!r}, which no version of isochrone makes; rename or drop it")
