"""Read a file piece by piece: numbered lines of text, or the documents of JSON, an array of JSON, or JSON lines.

No more than one line, one document or one item is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from io import BufferedReader
from pathlib import Path

import ijson
import msgspec

from records.errors import InputError
from warehouse.importers.formats import Parser
from warehouse.importers.found import Found, Given, Unfit

__all__ = ["MAX_LINE_BYTES", "digest_of", "documents", "items", "lines", "open_file"]

MAX_LINE_BYTES = 16 << 20
#: Reasons that say a file is broken, not that one measurement of it is of no use.
_BROKEN = frozenset({"not_json", "cut_off", "bad_field", "not_this_format", "not_text", "too_long"})
_BOM = b"\xef\xbb\xbf"


def open_file(path: str | Path) -> BufferedReader:
    """The file, open for reading; raises InputError that says why it cannot be."""
    try:
        if Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir()):
            raise InputError(path, None, "is a pipe or a device; save it as a file first: it is read more than once")
        return Path(path).open("rb")
    except IsADirectoryError as error:
        raise InputError(path, None, "is a folder; name a file") from error
    except FileNotFoundError as error:
        raise InputError(path, None, "there is no such file") from error
    except OSError as error:
        raise InputError(path, None, f"cannot be read: {error.strerror}") from error


def digest_of(path: str | Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = sha256()
    with open_file(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def items(parser: Parser, file: BufferedReader, given: Given) -> Iterator[Found | Unfit]:
    """What a parser finds in a file; a fault of the file is the last of it."""
    if _is_empty(file):
        yield Unfit("empty", "the file holds nothing")
        return
    if parser.is_whole:
        faults = [item for item in _items(parser, file, given) if isinstance(item, Unfit) and item.reason in _BROKEN]
        if faults:
            yield from faults
            return
        file.seek(0)
    yield from _items(parser, file, given)


def _items(parser: Parser, file: BufferedReader, given: Given) -> Iterator[Found | Unfit]:
    try:
        if parser.documents is not None and (_starts_json(file) or parser.lines is None):
            for place, document in documents(file):
                if isinstance(document, Unfit):
                    yield document
                    continue
                try:
                    for item in parser.documents(document, given):
                        yield replace(item, place=place) if isinstance(item, Found) else Unfit(item.reason, item.detail, place)
                except Unfit as fault:
                    yield Unfit(fault.reason, fault.detail, place)
        else:
            assert parser.lines is not None
            yield from parser.lines(lines(file), given)
    except Unfit as fault:
        yield fault


def _is_empty(file: BufferedReader) -> bool:
    blank = True
    while blank and (block := file.read(1 << 16)):
        blank = not block.removeprefix(_BOM).strip()
    file.seek(0)
    return blank


def _skip_mark(file: BufferedReader) -> None:
    if file.read(3) != _BOM:
        file.seek(0)


def _starts_json(file: BufferedReader) -> bool:
    """Whether the first character that is no space opens an object or an array; leaves the file at its beginning."""
    _skip_mark(file)
    head = file.read(4096).lstrip()
    file.seek(0)
    return head[:1] in (b"{", b"[")


def _raw_lines(file: BufferedReader) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise Unfit("too_long", f"line {number} has more than {MAX_LINE_BYTES} bytes", number)
        yield number, line


def lines(file: BufferedReader) -> Iterator[tuple[int, str]]:
    """The lines from 1 without their ends; raises Unfit on what is no UTF-8 text."""
    _skip_mark(file)
    for number, line in _raw_lines(file):
        if b"\0" in line:
            raise Unfit("not_text", f"line {number} holds a NUL byte: this is a binary file, or UTF-16", number)
        try:
            yield number, line.decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise Unfit("not_text", f"line {number}: byte 0x{line[error.start]:02x} is not UTF-8", number) from error


def documents(file: BufferedReader) -> Iterator[tuple[int, object]]:
    """(number from 1, document) of a file of JSON; of JSON lines the number is the line's and a bad line is an Unfit in its place.

    Raises Unfit where the rest of the file cannot be read.
    """
    _skip_mark(file)
    start = file.tell()
    if _is_json_lines(file):
        file.seek(start)
        for number, line in _raw_lines(file):
            if line.strip():
                yield number, _decoded(number, line)
        return
    file.seek(start)
    head = file.read(4096).lstrip()[:1]
    file.seek(start)
    number = 0
    try:
        prefix = "item" if head == b"[" else ""
        for value in ijson.items(file, prefix, multiple_values=True, use_float=True):
            number += 1
            yield number, value
    except ijson.IncompleteJSONError as error:
        # ijson calls every fault of yajl's incomplete; only this one is.
        is_cut = "premature EOF" in str(error) or "Incomplete" in str(error)
        raise Unfit(*_broken(is_cut, number, error)) from error
    except (ijson.JSONError, ValueError, OverflowError, RecursionError) as error:
        raise Unfit(*_broken(False, number, error)) from error


def _broken(is_cut: bool, number: int, error: Exception) -> tuple[str, str, int]:
    said = " ".join(str(error).split("\n", 1)[0].split())[:200]
    return ("cut_off" if is_cut else "not_json", f"document {number + 1}: {said}", number + 1)


def _is_json_lines(file: BufferedReader) -> bool:
    """Whether one of the first two lines that hold anything is a whole object: then every line is to be one."""
    seen = 0
    while seen < 2 and (line := file.readline(MAX_LINE_BYTES + 1)):
        if not line.strip():
            continue
        seen += 1
        if line.lstrip()[:1] == b"{" and isinstance(_decoded(seen, line), dict):
            return True
    return False


def _decoded(number: int, line: bytes) -> object:
    if len(line) > MAX_LINE_BYTES:
        return Unfit("too_long", f"line {number} has more than {MAX_LINE_BYTES} bytes", number)
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Unfit("not_json", f"line {number}: {error}", number)
