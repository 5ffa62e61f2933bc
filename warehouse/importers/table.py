"""Read a CSV file with its line numbers, or say in one sentence why it cannot be read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from records.errors import InputError

__all__ = ["MAX_CSV_BYTES", "CsvTable", "read_csv"]

#: A matrix is one transaction and is held whole: so many bytes are about half a million rows, the pairs of 700 sites.
MAX_CSV_BYTES = 32_000_000


@dataclass(frozen=True, slots=True)
class CsvTable:
    """A CSV file: its bytes, its header, and its rows as (line number from 1, fields); blank lines are left out."""

    path: str
    content: bytes
    header: tuple[str, ...]
    rows: list[tuple[int, list[str]]]


def read_csv(path: str | Path) -> CsvTable:
    """The file at `path` as UTF-8 CSV with a header line.

    Raises InputError, with the line where there is one: it cannot be opened, is empty, binary or not UTF-8, its header
    is missing a name or repeats one, a quote is open, or a row is ragged.
    """
    content = _bytes(path)
    text = _text(path, content)
    records = _records(path, text)
    line, header = next(records, (1, []))
    names = tuple(name.strip() for name in header)
    if not names:
        raise InputError(path, 1, "there is no header; the first line names the columns")
    for index, name in enumerate(names):
        if not name:
            raise InputError(path, line, f"column {index + 1} of the header has no name")
        if name in names[:index]:
            raise InputError(path, line, f"the header names the column {name!r} twice")
    rows = []
    for line, fields in records:
        if len(fields) != len(names):
            raise InputError(path, line, f"the row has {len(fields)} fields and the header {len(names)}; quote fields that hold a comma")
        rows.append((line, fields))
    return CsvTable(str(path), content, names, rows)


def _bytes(path: str | Path) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_CSV_BYTES + 1)
    except IsADirectoryError as error:
        raise InputError(path, None, "is a folder; name a CSV file") from error
    except FileNotFoundError as error:
        raise InputError(path, None, "there is no such file") from error
    except OSError as error:
        raise InputError(path, None, f"cannot be read: {error.strerror}") from error
    if len(content) > MAX_CSV_BYTES:
        raise InputError(path, None, f"holds more than the {MAX_CSV_BYTES} bytes that a matrix may have; split it into several files")
    if not content.strip():
        raise InputError(path, None, "is empty; the first line names the columns")
    return content


def _text(path: str | Path, content: bytes) -> str:
    nul = content.find(b"\0")
    if nul >= 0:
        raise InputError(
            path, content.count(b"\n", 0, nul) + 1, "holds a NUL byte: this is a binary file, or UTF-16; save it as CSV in UTF-8"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(path, line, f"byte 0x{content[error.start]:02x} is not UTF-8; save the file as CSV in UTF-8") from error


def _records(path: str | Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """(line the record begins at, its fields); records that are blank are passed over."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(path, line, f"is not CSV from here: {error}") from error
        if fields and any(field.strip() for field in fields):
            yield line, fields
