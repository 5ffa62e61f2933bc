"""Read a CSV file row by row with its line numbers, or say in one sentence why it cannot be read.

Of a file no more than a block, a line and a row is in memory at a time, whatever its size.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from records.errors import InputError
from warehouse.importers.stream import MAX_LINE_BYTES, open_file

__all__ = ["CsvTable", "read_csv"]

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class CsvTable:
    """A CSV file that is text and has a header; content_sha256 is of all of it, in hexadecimal."""

    path: str
    content_sha256: str
    header: tuple[str, ...]

    def rows(self, progress: Callable[[int], object] | None = None) -> Iterator[tuple[int, list[str]]]:
        """The rows, read anew from the file: (line number from 1, fields); blank lines are left out.

        progress   called with the bytes read since the last call

        Raises InputError with its line where a quote is open or a row is ragged.
        """
        with open_file(self.path) as file:
            records = _records(self.path, file, progress)
            next(records, None)
            for line, fields in records:
                if len(fields) != len(self.header):
                    said = f"the row has {len(fields)} fields and the header {len(self.header)}"
                    raise InputError(self.path, line, f"{said}; quote fields that hold a comma")
                yield line, fields


def read_csv(path: str | Path, progress: Callable[[int], object] | None = None) -> CsvTable:
    """The file at `path` as UTF-8 CSV with a header line; its rows are not looked at yet, its bytes are.

    Raises InputError, with the line where there is one: it cannot be opened, is empty, binary or not UTF-8, or its header
    is missing a name or repeats one.
    """
    content_sha256 = _scan(path, progress)
    with open_file(path) as file:
        line, header = next(_records(path, file, None), (1, []))
    names = tuple(name.strip() for name in header)
    if not names:
        raise InputError(path, 1, "there is no header; the first line names the columns")
    for index, name in enumerate(names):
        if not name:
            raise InputError(path, line, f"column {index + 1} of the header has no name")
        if name in names[:index]:
            raise InputError(path, line, f"the header names the column {name!r} twice")
    return CsvTable(str(path), content_sha256, names)


def _scan(path: str | Path, progress: Callable[[int], object] | None) -> str:
    """SHA-256 of a file that is text from end to end, with lines of bounded length."""
    digest, decoder = sha256(), codecs.getincrementaldecoder("utf-8")()
    is_blank, line, unbroken = True, 1, 0
    with open_file(path) as file:
        while True:
            block = file.read(_BLOCK_BYTES)
            nul = block.find(b"\0")
            if nul >= 0:
                line += block.count(b"\n", 0, nul)
                raise InputError(path, line, "holds a NUL byte: this is a binary file, or UTF-16; save it as CSV in UTF-8")
            held = len(decoder.getstate()[0])  # of the character that the block before broke off in
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                line += block.count(b"\n", 0, max(0, error.start - held))
                raise InputError(
                    path, line, f"byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as CSV in UTF-8"
                ) from error
            if not block:
                break
            digest.update(block)
            is_blank = is_blank and not block.strip()
            last = max(block.rfind(b"\n"), block.rfind(b"\r"))
            unbroken = unbroken + len(block) if last < 0 else len(block) - last - 1
            line += block.count(b"\n")
            if unbroken > MAX_LINE_BYTES:
                raise InputError(path, line, f"the line has more than {MAX_LINE_BYTES} bytes; this is no CSV of one row a line")
            if progress is not None:
                progress(len(block))
    if is_blank:
        raise InputError(path, None, "is empty; the first line names the columns")
    return digest.hexdigest()


def _records(path: str | Path, file: io.BufferedReader, progress: Callable[[int], object] | None) -> Iterator[tuple[int, list[str]]]:
    """(line the record begins at, its fields); records that are blank are passed over."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    reader = csv.reader(text, strict=True)
    told = 0
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise InputError(path, line, f"is not CSV from here: {error}") from error
        if progress is not None and (at := file.tell()) - told >= _BLOCK_BYTES:
            progress(at - told)
            told = at
        if fields and any(field.strip() for field in fields):
            yield line, fields
    if progress is not None:
        progress(file.tell() - told)
