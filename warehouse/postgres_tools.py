"""pg_dump and pg_restore for a catalog in PostgreSQL: the tables of DuckLake, as they are in one exported snapshot."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from records.errors import NotPermitted, OutsideError, ToolMissing
from warehouse.lake_files import new_file
from warehouse.place import Place

__all__ = ["dump", "restore"]

_TIMEOUT_S = 3600
_TABLES = "ducklake_*"


def dump(where: Place, snapshot: str, target: Path) -> None:
    """Write the catalog's tables to `target`, a new file, as the transaction that exported `snapshot` sees them."""
    target.unlink(missing_ok=True)
    os.close(new_file(target))  # pg_dump would make one that the umask alone closes
    _run("pg_dump", "--format=custom", f"--snapshot={snapshot}", f"--table={_TABLES}", f"--file={target}", f"--dbname={where.catalog}")


def restore(source: Path, where: Place) -> None:
    """Make the tables of a dump in the database of `where`, all or none; they belong to the role that does it."""
    options = ("--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges")
    _run("pg_restore", *options, f"--dbname={where.catalog}", str(source))


def _run(tool: str, *arguments: str) -> None:
    """Raises ToolMissing, NotPermitted or OutsideError with the tool's own first line."""
    program = _program(tool)
    try:
        # Without a terminal to ask for a password at.
        done = subprocess.run(
            [program, "--no-password", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise OutsideError(f"{tool} took more than {_TIMEOUT_S} s and was ended; nothing is half done") from None
    if done.returncode:
        said = re.sub(r"\s+", " ", done.stderr.strip().removeprefix(f"{tool}: error: "))[:400]
        kind = NotPermitted if re.search(r"permission denied|authentication failed|no password", said) else OutsideError
        raise kind(f"{tool}: {said}")


def _program(tool: str) -> str:
    """The newest of Debian's, which lie apart, or what the path has: it must not be older than the server."""
    found = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{tool}"), key=lambda path: int(path.parts[-3]) if path.parts[-3].isdigit() else 0
    )
    program = str(found[-1]) if found else shutil.which(tool)
    if program is None:
        raise ToolMissing(f"a catalog in PostgreSQL is backed up and restored by {tool}; `apt-get install postgresql-client`")
    return program
