"""What a commit names is on the disk before it commits: DuckDB writes Parquet files and leaves it to the kernel when they get there.

SQLite syncs the catalog with every commit. A catalog that was synced and files that were not are what a power cut makes of a commit
otherwise: rows that were answered for are gone, and their batches, sent again, count as stored.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["NewFiles", "on_disk"]

#: A folder that changed so lately may change again without its time telling.
_FRESH_NS = 200_000_000


@dataclass(slots=True)
class _Folder:
    changed_ns: int = -1
    is_fresh: bool = True
    names: set[str] = field(default_factory=set)
    folders: dict[str, _Folder] = field(default_factory=dict)


class NewFiles:
    """The files of a folder and all below it that have come since it was last looked at. For one thread at a time.

    A name stands for one file for ever, as DuckLake's do. Only folders whose time has changed are read: with a few hundred of them a
    look takes about a millisecond.
    """

    def __init__(self, folder: Path) -> None:
        self._root, self._known = str(folder), _Folder()
        self._look(self._root, self._known)

    def sync(self) -> int:
        """Have the kernel put what has come since on the disk, files and the folders they are in; how many files. Raises OSError."""
        files, folders = self._look(self._root, self._known)
        for path in (*files, *reversed(folders)):
            with suppress(FileNotFoundError):  # another process took it away: nothing that is committed names it
                on_disk(path)
        return len(files)

    def _look(self, path: str, known: _Folder) -> tuple[list[str], list[str]]:
        """(new files, folders with something new, the upper ones first)."""
        files: list[str] = []
        changed: list[str] = []
        try:
            at_ns = os.stat(path).st_mtime_ns  # noqa: PTH116 - a path as text, hundreds of times a commit
            if known.is_fresh or at_ns != known.changed_ns:
                known.is_fresh = abs(time.time_ns() - at_ns) < _FRESH_NS
                known.changed_ns = at_ns
                names, folders = _listed(path)
                files += [f"{path}/{name}" for name in names - known.names]
                if files or folders - known.folders.keys():
                    changed.append(path)
                known.names = names
                known.folders = {name: known.folders.get(name) or _Folder() for name in folders}
        except FileNotFoundError:  # of a partition that is over
            return [], []
        for name, below in known.folders.items():
            more, also = self._look(f"{path}/{name}", below)
            files += more
            changed += also
        return files, changed


def _listed(path: str) -> tuple[set[str], set[str]]:
    names, folders = set[str](), set[str]()
    with os.scandir(path) as entries:
        for entry in entries:
            (folders if entry.is_dir(follow_symlinks=False) else names).add(entry.name)
    return names, folders


def on_disk(path: str | Path) -> None:
    """Have the kernel put a file, or the names in a folder, on the disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
