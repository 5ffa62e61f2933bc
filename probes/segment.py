"""The files of a spool: their names, and how one is written so that a crash at any instant leaves it whole or absent.

See probes/spool.py for the rules they keep.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from records.batch import BatchName
from records.errors import ConfigError

__all__ = [
    "OPEN",
    "SEALED",
    "DamagedSegment",
    "Segment",
    "claim_folder",
    "compress",
    "fsync_folder",
    "is_whole_gzip",
    "open_path",
    "store_sealed",
    "whole_lines",
    "write_all",
]

#: life, boot, sequence; and of a sealed segment the measurements in it.
OPEN = re.compile(r"(\d{8})-([0-9a-f]+)-(\d{8})\.open")
SEALED = re.compile(r"(\d{8})-([0-9a-f]+)-(\d{8})-(\d+)\.ndjson\.gz")


_CHECK_BYTES = 1 << 16


class DamagedSegment(Exception):
    """A sealed file whose content its own checksum denies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A sealed batch: its name on the wire, its file, the file's size and the measurements (not statuses) in it.

    wall_offset_ns   the wall clock less the time since boot when its lines were dated; None: not known, of a process that has ended
    """

    name: BatchName
    path: Path
    size_bytes: int
    measurements: int
    wall_offset_ns: int | None = None

    def read(self) -> bytes:
        """The body to send: gzip-compressed lines, byte for byte the same at every call.

        Raises DamagedSegment when the disk gave back something else than was written, OSError when it gave back nothing.
        """
        body = self.path.read_bytes()
        if not is_whole_gzip(body):
            raise DamagedSegment(f"{self.path} is not what was written: {len(body)} bytes that are no whole gzip member")
        return body


def open_path(folder: Path, life: int, boot: str, sequence: int) -> Path:
    """Where a segment is written while it is open."""
    return folder / f"{life:08d}-{boot}-{sequence:08d}.open"


def compress(lines: bytes) -> bytes:
    """gzip without a time in its header: equal lines, equal bytes."""
    return gzip.compress(lines, compresslevel=6, mtime=0)


def is_whole_gzip(body: bytes) -> bool:
    """Whether bytes are one gzip member (RFC 1952), whole, with the right checksum and length, and nothing after it."""
    inflate = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    rest = body
    try:
        while not inflate.eof:
            got = inflate.decompress(rest, _CHECK_BYTES)
            rest = inflate.unconsumed_tail
            if not got and not rest and not inflate.eof:
                return False
    except zlib.error:
        return False
    return not inflate.unused_data


def store_sealed(folder: Path, life: int, name: BatchName, body: bytes, measurements: int, wall_offset_ns: int | None = None) -> Segment:
    """Write a sealed segment; after the return it survives a power cut, and before it there is none.

    Only then may its open file go and the batch be sent: a batch that was sent never comes back with other bytes.
    """
    path = folder / f"{life:08d}-{name.boot}-{name.sequence:08d}-{measurements}.ndjson.gz"
    draft = path.with_suffix(".tmp")
    try:
        with open(draft, "wb", opener=_open_private) as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    fsync_folder(folder)
    return Segment(name=name, path=path, size_bytes=len(body), measurements=measurements, wall_offset_ns=wall_offset_ns)


def whole_lines(content: bytes) -> tuple[list[bytes], int, int]:
    """What can be kept of a segment that a dead process left open.

    Returns the lines (each with its newline) before the first damaged one, how many of them are measurements, and how
    many lines are lost.
    """
    *lines, tail = content.split(b"\n")
    whole: list[bytes] = []
    measurements = 0
    for line in lines:
        kind = _type_of_line(line)
        if kind is None:
            break
        whole.append(line + b"\n")
        measurements += kind != "status"
    return whole, measurements, len(lines) - len(whole) + bool(tail)


def claim_folder(folder: Path, agent: str) -> int:
    """Lock the folder for this process and this agent; the descriptor that holds the lock.

    Raises ConfigError when another process holds it or it belongs to another agent.
    """
    fd = os.open(folder / "agent", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise ConfigError(f"spool {folder} is in use by another running agent; give each agent its own agent.spool_dir") from None
    owner = os.read(fd, 1000).decode(errors="replace").strip()
    if owner and owner != agent:
        os.close(fd)
        raise ConfigError(
            f"spool {folder} belongs to agent {owner!r}, not {agent!r}; "
            "choose another agent.spool_dir, or delete the folder if what it holds is not needed"
        )
    if not owner:
        os.write(fd, f"{agent}\n".encode())
        os.fsync(fd)
    return fd


def write_all(fd: int, block: bytes, offset: int) -> None:
    """Write a whole block at the end, `offset`, or nothing: a write cut short by a full disk is taken back (OSError)."""
    view = memoryview(block)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError:
        os.ftruncate(fd, offset)
        os.lseek(fd, offset, os.SEEK_SET)
        raise


def fsync_folder(path: Path) -> None:
    """Make the names in a folder survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _type_of_line(line: bytes) -> str | None:
    """The `type` of a whole line, None for a damaged one (torn, or zeros after a power cut)."""
    try:
        body = json.loads(line)
    except (ValueError, RecursionError):
        return None
    kind = body.get("type") if isinstance(body, dict) else None
    return kind if isinstance(kind, str) else None


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
