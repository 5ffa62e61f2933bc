"""A warehouse's Parquet files as files: which a catalog needs, and how they are fetched, kept and put back, each with its SHA-256.

DuckLake never changes a file; one that no snapshot needs any more goes after a day. So a catalog as it was at one moment, and after
that the files that it names, is a whole warehouse, whoever writes meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import duckdb

from records.errors import NotPermitted, OutsideError
from warehouse.durable import on_disk
from warehouse.extensions import load
from warehouse.place import quoted, s3_secret
from warehouse.statements import statement

__all__ = [
    "FileGone",
    "FolderFiles",
    "LakeFile",
    "S3Files",
    "Storage",
    "copy_catalog",
    "files_of",
    "is_inside",
    "listing",
    "make_folder",
    "needed_by",
    "new_file",
    "newest_snapshot",
    "put_file",
    "storage",
]

_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeFile:
    """One file: its path below the data path, and its size."""

    path: str
    size_bytes: int


class FileGone(OutsideError):
    """A file that a catalog names is not there (any more)."""


def newest_snapshot(catalog: Path) -> int:
    """The newest snapshot of a SQLite catalog."""
    with closing(sqlite3.connect(f"file:{catalog}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT max(snapshot_id) FROM ducklake_snapshot").fetchone()[0])


def needed_by(catalog: Path) -> list[LakeFile]:
    """The files that a SQLite catalog names."""
    with closing(sqlite3.connect(f"file:{catalog}?mode=ro", uri=True)) as connection:
        data_path = str(connection.execute("SELECT value FROM ducklake_metadata WHERE key = 'data_path'").fetchone()[0])
        return files_of(connection.execute(statement("care/lake_files")).fetchall(), data_path)


def files_of(rows: Iterable[tuple[object, ...]], data_path: str) -> list[LakeFile]:
    """The answer of care/lake_files.sql. Raises OutsideError for a file that lies elsewhere, which no warehouse of ours has."""
    found = []
    for path, size in rows:
        relative = str(path).removeprefix(data_path)
        if not is_inside(relative):
            raise OutsideError(f"the catalog names {path}, which is not below its data path {data_path}; isochrone puts no file there")
        found.append(LakeFile(path=relative, size_bytes=int(str(size))))
    return found


def listing() -> str:
    """care/lake_files.sql for PostgreSQL: its comments away, for DuckDB puts the query into one of its own."""
    return "\n".join(line for line in statement("care/lake_files").splitlines() if not line.startswith("--"))


def is_inside(path: str) -> bool:
    """Whether a path names a Parquet file below the folder that it is relative to, and nothing else to whoever opens it."""
    parts = path.split("/")
    return (
        path.endswith(".parquet") and path.isprintable() and not {"", ".", ".."} & set(parts) and not any(sign in path for sign in "\\*?[")
    )


def copy_catalog(source: Path, target: Path) -> None:
    """Copy a SQLite catalog as it is at one moment, beside whoever writes to it; `target` is one file, whole and on disk, or not there.

    Others cannot read the copy. Whoever writes is another process: the system's locks are a process's, and closing our SQLite's file would
    end those of DuckDB's.
    """
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        os.close(new_file(aside))  # SQLite would make one that all may read; its journal has the mode of its file
        with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=60)) as live, closing(sqlite3.connect(aside)) as copy:
            live.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE").fetchall()  # its log goes into it: one file
        on_disk(aside)
        aside.replace(target)
        on_disk(target.parent)
    except sqlite3.Error as error:
        raise OutsideError(f"cannot copy the catalog {source} to {target}: {error}") from error
    except OSError as error:
        raise _cannot(error, f"cannot copy the catalog {source} to {target}") from error
    finally:
        for left in (aside, aside.with_name(f"{aside.name}-journal")):
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)


def new_file(path: Path) -> int:
    """A handle to write a new file by that only its owner and its group can open, whatever the umask. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o660)


def make_folder(folder: Path, *, mode: int = 0o750) -> None:
    """Make a folder and those that it is in, where they are absent, closed to others whatever the umask. Raises OSError."""
    if not folder.is_dir():
        make_folder(folder.parent, mode=mode)
        folder.mkdir(mode=mode, exist_ok=True)


def put_file(chunks: Iterable[bytes], target: Path, *, folder_mode: int = 0o750) -> tuple[int, str]:
    """Write a file, whole and on disk or not at all, that others cannot open; its bytes and SHA-256."""
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    digest, size = sha256(), 0
    try:
        make_folder(target.parent, mode=folder_mode)
        with os.fdopen(new_file(aside), "wb") as file:
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
    except OSError as error:
        raise _cannot(error, f"cannot write {target}") from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
    return size, digest.hexdigest()


class Storage(Protocol):
    """Where a warehouse's files are."""

    def read(self, path: str) -> Iterator[bytes]:
        """A file's bytes. Raises FileGone."""
        ...

    def put(self, source: Path, path: str) -> None:
        """Put a local file there."""
        ...


class FolderFiles:
    """Files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, path: str) -> Iterator[bytes]:
        """In chunks."""
        try:
            with (self._folder / path).open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    yield chunk
        except FileNotFoundError:
            raise FileGone(f"the catalog names {self._folder / path}, which is not there") from None
        except OSError as error:
            raise _cannot(error, f"cannot read {self._folder / path}") from error

    def put(self, source: Path, path: str) -> None:
        """Copied; the folders are the group's too, as those of a collector that writes on there may be."""
        put_file(FolderFiles(source.parent).read(source.name), self._folder / path, folder_mode=0o770)


class S3Files:
    """Files in S3, by DuckDB's own client; each passes through memory whole."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, prefix: str) -> None:
        self._connection, self._prefix = connection, prefix
        load(connection, "httpfs")
        connection.execute(s3_secret())

    def read(self, path: str) -> Iterator[bytes]:
        """In one piece."""
        try:
            found = self._connection.execute(f"SELECT content FROM read_blob({quoted(self._prefix + path)})").fetchone()
        except duckdb.Error as error:
            if "404" in str(error) or "No files found" in str(error):
                raise FileGone(f"the catalog names {self._prefix}{path}, which is not there") from None
            raise
        assert found is not None
        yield found[0]

    def put(self, source: Path, path: str) -> None:
        """Uploaded."""
        self._connection.execute(
            f"COPY (SELECT content FROM read_blob({quoted(str(source))})) TO {quoted(self._prefix + path)} (FORMAT blob)"
        )


def storage(connection: duckdb.DuckDBPyConnection, data_path: str) -> Storage:
    """The files of a data path."""
    return S3Files(connection, data_path) if data_path.startswith("s3://") else FolderFiles(Path(data_path))


def _cannot(error: OSError, what: str) -> OutsideError:
    kind = NotPermitted if isinstance(error, PermissionError) else OutsideError
    return kind(f"{what}: {error.strerror or error}")
