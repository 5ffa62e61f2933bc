"""A note in a folder that a backup or a restore is filling: whose it is, and which files in `data/` are ours. It is there before the
first of them and goes at the end.

By it a folder of ours that was broken off is told from one that holds somebody else's files, and what may be removed again is what it
names: nothing is ours because of how it is called.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from records.errors import InputError, UserError
from warehouse.durable import on_disk
from warehouse.lake_files import is_inside, put_file
from warehouse.lock import LOCK
from warehouse.place import DATA

__all__ = ["STARTED", "end", "foreign", "refuse_links", "start", "unfinished"]

STARTED = "started.json"
_FORMAT = 1
#: What put_file and copy_catalog write to before they rename: left by a process that was killed.
_ASIDE = re.compile(r"\.(started\.json|backup\.json|catalog\.sqlite)\.[0-9a-f]{8}(-journal)?")


def start(folder: Path, whose: str, files: Iterable[str]) -> None:
    """Say, on the disk, that `files` below `data/` are ours. Raises OutsideError or NotPermitted."""
    put_file([json.dumps({"format": _FORMAT, "of": whose, "files": sorted(files)}).encode()], folder / STARTED)


def end(folder: Path) -> None:
    """All is in its place. Raises OSError."""
    (folder / STARTED).unlink(missing_ok=True)
    on_disk(folder)


def unfinished(folder: Path, whose: str) -> set[str] | None:
    """The files that one that was broken off may have put into the folder; None: there is no note.

    Raises UserError when it was of something else, InputError when the note cannot be understood.
    """
    file = folder / STARTED
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        found, files = str(document["of"]), {str(path) for path in document["files"]}
        is_ours = document["format"] == _FORMAT and all(map(is_inside, files))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(file, None, f"cannot be read: {error}; name an empty folder") from None
    if not is_ours:
        raise InputError(file, None, "is no note of a backup or a restore that was broken off; name an empty folder")
    if found != whose:
        raise UserError(f"{folder} holds what was broken off of another one ({found}, not {whose}); name an empty folder")
    return files


def foreign(folder: Path, *, ours: Iterable[str] = ()) -> str | None:
    """Something in the folder that is not ours, if there is: any name but our lock's and `ours`, and a `data/` with anything in it."""
    known = {LOCK, *ours}
    for path in sorted(folder.iterdir()):
        is_empty_data = path.name == DATA and path.is_dir() and not any(path.iterdir())
        if path.name not in known and not is_empty_data and not _ASIDE.fullmatch(path.name):
            return path.name
    return None


def refuse_links(folder: Path, *names: str) -> None:
    """Raises UserError where one of the folders `names` in it, or a folder anywhere below, is a link: what is behind one is not ours."""
    for name in names:
        for at in (folder / name, *(Path(root) / below for root, folders, _ in os.walk(folder / name) for below in folders)):
            if at.is_symlink():
                raise UserError(f"{at} is a link, and files would be written and removed behind it; name a folder without links")
