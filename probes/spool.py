"""The spool: what an agent measured waits here, on disk, until the collector has it.

A spool is a folder of segments, and a segment is a batch. Rules, above the code that keeps them:

* Lines are appended to one open segment, ``<life>-<boot>-<sequence>.open``. After `sync` they survive a power cut.
* All lines of a segment were dated by one setting of the wall clock: when that is set, the next line opens another segment.
* A segment is sealed before it is sent: compressed, fsynced, renamed to ``<life>-<boot>-<sequence>-<measurements>.ndjson.gz``.
  A sealed segment never changes: its bytes are the bytes on the wire, so a batch sent twice is the same batch.
* It is deleted only by `done`, which is called after the collector's 200.
* (boot, sequence) is never used twice: every opening of the spool is a new boot, with a life number one higher than any
  on the disk. Segments of earlier lives keep their own boot id and go first.
* A process that dies leaves an open segment. The next one keeps its whole lines, counts a torn one, and seals it.
* The folder never holds more than `max_bytes` (while a segment is being sealed: plus that one). The oldest segments go
  first and their measurements are counted; a write that fails for want of space is counted too and leaves no torn line.
* A sealed segment that its own checksum denies is put into quarantine when it is to be sent, and so is what is left of a
  damaged open one: whoever wants to may look at it, and it holds nothing up.

Appending only hands bytes to the kernel; `sync` and `seal` wait for the disk and may run in another thread.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from probes.segment import OPEN, SEALED, Segment, claim_folder, compress, fsync_folder, open_path, store_sealed, whole_lines, write_all
from records.batch import BatchName
from records.errors import NotPermitted
from records.units import SECOND

__all__ = ["QUARANTINE", "Segment", "Spool"]

#: Sub-folder for batches that the collector will not take and that must not be sent again as they are.
QUARANTINE = "quarantine"
_KEEP_QUARANTINED = 100
#: A wall clock that has moved by more was set; one that is being slewed to the right time moves by half a millisecond a second (adjtimex).
_CLOCK_SET_NS = SECOND


@dataclass(slots=True)
class _Open:
    path: Path
    fd: int
    sequence: int
    opened_at_ns: int
    wall_offset_ns: int | None
    size_bytes: int = 0
    measurements: int = 0

    def is_dated_by(self, wall_offset_ns: int | None) -> bool:
        """Whether its lines were dated by this setting of the clock, as far as is known."""
        known = self.wall_offset_ns
        return known is None or wall_offset_ns is None or abs(wall_offset_ns - known) <= _CLOCK_SET_NS


@dataclass(slots=True)
class _State:
    """Everything `append` (the loop) and `seal` (a thread) share, under one lock that is never held over disk waits."""

    current: _Open | None = None
    closing: deque[_Open] = field(default_factory=deque)
    sealed: deque[Segment] = field(default_factory=deque)
    sealed_bytes: int = 0
    held: set[Segment] = field(default_factory=set)
    next_sequence: int = 0
    is_folder_dirty: bool = False


class Spool:
    """The spool of one running agent; use `close` or a ``with`` block to release its folder.

    directory      the folder; made when absent, private to the user
    agent, boot    of this process; a folder belongs to one agent for ever
    max_bytes      bound of the folder
    segment_bytes  a segment is closed before it grows past this (before compression)

    Raises ConfigError when the folder belongs to another agent or another process is using it, NotPermitted when it
    cannot be written.
    """

    def __init__(self, directory: Path, *, agent: str, boot: str, max_bytes: int, segment_bytes: int) -> None:
        self.directory, self.agent, self.boot = directory, agent, boot
        self.max_bytes, self.segment_bytes = max_bytes, segment_bytes
        self.dropped_measurements = 0
        self.torn_lines = 0
        self._lock = threading.Lock()
        self._sealing = threading.Lock()
        self._is_closed = False
        self._state = _State()
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock_fd = claim_folder(directory, agent)
            self._life = self._recover()
        except OSError as error:
            raise NotPermitted(f"spool {directory} cannot be used: {error.strerror}; set agent.spool_dir to a writable folder") from error

    # -- writing ----------------------------------------------------------------------------------------------------

    def append(self, lines: Sequence[bytes], *, measurements: int, now_ns: int, wall_offset_ns: int | None = None) -> bool:
        """Append whole lines (each with its newline) that belong together; `measurements` of them are not statuses.

        now_ns           monotonic time
        wall_offset_ns   as in probes.clock; None: not known

        Returns False when they could not be kept (disk full, or a bound too small): they are then counted as dropped.
        """
        block = b"".join(lines)
        with self._lock:
            state = self._state
            current = state.current
            if current is not None and (current.size_bytes + len(block) > self.segment_bytes or not current.is_dated_by(wall_offset_ns)):
                state.closing.append(current)
                state.current = None
            self._make_room(len(block))
            if self._size_bytes() + len(block) > self.max_bytes:
                self.dropped_measurements += measurements
                return False
            try:
                if state.current is None:
                    state.current = self._open_segment(now_ns, wall_offset_ns)
                write_all(state.current.fd, block, state.current.size_bytes)
            except OSError:
                self.dropped_measurements += measurements
                return False
            state.current.size_bytes += len(block)
            state.current.measurements += measurements
            return True

    def sync(self) -> None:
        """Wait until everything appended so far would survive a power cut. May run in another thread."""
        with self._lock:
            files = [os.dup(entry.fd) for entry in (*self._state.closing, self._state.current) if entry is not None]
            is_folder_dirty, self._state.is_folder_dirty = self._state.is_folder_dirty, False
        try:
            for fd in files:
                os.fsync(fd)
        finally:
            for fd in files:
                os.close(fd)
        if is_folder_dirty:
            fsync_folder(self.directory)

    def seal(self) -> int:
        """Seal the open segment, if any, so that it can be sent; how many became sealed. May run in another thread."""
        with self._lock:
            if self._state.current is not None:
                self._state.closing.append(self._state.current)
                self._state.current = None
        return self.seal_full()

    def seal_full(self) -> int:
        """Seal only the segments that are full already. May run in another thread."""
        count = 0
        with self._sealing:
            while True:
                with self._lock:
                    entry = self._state.closing[0] if self._state.closing and not self._is_closed else None
                if entry is None:
                    return count
                if not entry.size_bytes:  # the disk had room for its name and for no line
                    with self._lock:
                        self._state.closing.popleft()
                        os.close(entry.fd)
                    entry.path.unlink()
                    continue
                body = compress(entry.path.read_bytes())
                name = BatchName(self.agent, self.boot, entry.sequence)
                segment = store_sealed(self.directory, self._life, name, body, entry.measurements, entry.wall_offset_ns)
                with self._lock:
                    self._state.closing.popleft()
                    os.close(entry.fd)
                    self._state.sealed.append(segment)
                    self._state.sealed_bytes += segment.size_bytes
                entry.path.unlink()
                count += 1

    # -- sending ----------------------------------------------------------------------------------------------------

    def oldest(self) -> Segment | None:
        """The oldest segment that is not held. It is held from now on, until `done`, `quarantine`, `lose` or `release`.

        A held segment is not given out again, and the bound will not drop it.
        """
        with self._lock:
            segment = next((segment for segment in self._state.sealed if segment not in self._state.held), None)
            if segment is not None:
                self._state.held.add(segment)
            return segment

    def done(self, segment: Segment) -> None:
        """The collector has it: delete it."""
        self._forget(segment)
        segment.path.unlink(missing_ok=True)

    def quarantine(self, segment: Segment) -> Path:
        """Put a segment aside that must not be sent again as it is; where it is now. The newest hundred are kept."""
        self._forget(segment)
        return self._put_aside(segment.path)

    def lose(self, segment: Segment) -> None:
        """Its file cannot be read (any more): give it up and count it."""
        self._forget(segment)
        self.dropped_measurements += segment.measurements
        segment.path.unlink(missing_ok=True)

    def release(self, segment: Segment) -> None:
        """Not sent: it stays, is given out again, and may be dropped by the bound. Nothing when it is gone already."""
        with self._lock:
            self._state.held.discard(segment)

    # -- what there is ----------------------------------------------------------------------------------------------

    @property
    def size_bytes(self) -> int:
        """Bytes waiting on the disk, sealed or not."""
        with self._lock:
            return self._size_bytes()

    @property
    def waiting(self) -> int:
        """Sealed segments that wait to be sent."""
        return len(self._state.sealed)

    @property
    def opened_at_ns(self) -> int | None:
        """The `now_ns` of the first append to the open segment; None when there is no open segment."""
        current = self._state.current
        return None if current is None else current.opened_at_ns

    @property
    def has_full(self) -> bool:
        """A full segment waits for `seal_full`."""
        return bool(self._state.closing)

    def close(self) -> None:
        """Release the folder; what is not sealed is sealed by the next start.

        A segment that another thread is sealing just now is waited for: the folder may be another process's the moment after.
        """
        with self._lock:
            self._is_closed = True
        with self._sealing, self._lock:
            for entry in (*self._state.closing, self._state.current):
                if entry is not None:
                    os.close(entry.fd)
            self._state.current = None
            self._state.closing.clear()
        os.close(self._lock_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _recover(self) -> int:
        """Take over what earlier lives left; the number of this life."""
        left = sorted(self.directory.iterdir())
        sealed = {match.group(1, 2, 3): match for path in left if (match := SEALED.fullmatch(path.name))}
        lives = [0]
        for path in left:
            if path.suffix == ".tmp":
                path.unlink()
            elif match := OPEN.fullmatch(path.name):
                lives.append(int(match[1]))
                is_torn = match.group(1, 2, 3) not in sealed and self._seal_remains(
                    path, int(match[1]), BatchName(self.agent, match[2], int(match[3]))
                )
                if is_torn:
                    self._put_aside(path)
                else:
                    path.unlink()
        for path in sorted(self.directory.iterdir()):
            if match := SEALED.fullmatch(path.name):
                lives.append(int(match[1]))
                name = BatchName(self.agent, match[2], int(match[3]))
                segment = Segment(name=name, path=path, size_bytes=path.stat().st_size, measurements=int(match[4]))
                self._state.sealed.append(segment)
                self._state.sealed_bytes += segment.size_bytes
        with self._lock:
            self._make_room(0)
        return max(lives) + 1

    def _put_aside(self, path: Path) -> Path:
        folder = self.directory / QUARANTINE
        folder.mkdir(exist_ok=True, mode=0o700)
        kept = path.rename(folder / path.name)
        for old in sorted(folder.iterdir())[:-_KEEP_QUARANTINED]:
            old.unlink()
        return kept

    def _seal_remains(self, path: Path, life: int, name: BatchName) -> bool:
        """Seal the whole lines; whether more than the last line of the file is damaged."""
        lines, measurements, torn = whole_lines(path.read_bytes())
        self.torn_lines += torn
        self.dropped_measurements += torn
        if lines:
            store_sealed(self.directory, life, name, compress(b"".join(lines)), measurements)
        return torn > 1

    def _open_segment(self, now_ns: int, wall_offset_ns: int | None) -> _Open:
        state = self._state
        path = open_path(self.directory, self._life, self.boot, state.next_sequence)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        entry = _Open(path, fd, state.next_sequence, now_ns, wall_offset_ns)
        state.next_sequence += 1
        state.is_folder_dirty = True
        return entry

    def _size_bytes(self) -> int:
        state = self._state
        unsealed = sum(entry.size_bytes for entry in (*state.closing, state.current) if entry is not None)
        return state.sealed_bytes + unsealed

    def _make_room(self, incoming_bytes: int) -> None:
        """Drop the oldest sealed segments, except the one being sent, until `incoming_bytes` fit."""
        state = self._state
        while self._size_bytes() + incoming_bytes > self.max_bytes:
            victim = next((segment for segment in state.sealed if segment not in state.held), None)
            if victim is None:
                return
            state.sealed.remove(victim)
            state.sealed_bytes -= victim.size_bytes
            self.dropped_measurements += victim.measurements
            victim.path.unlink(missing_ok=True)

    def _forget(self, segment: Segment) -> None:
        with self._lock:
            self._state.sealed.remove(segment)
            self._state.sealed_bytes -= segment.size_bytes
            self._state.held.discard(segment)
