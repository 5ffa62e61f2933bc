"""DuckDB's extensions from their wheels: loaded by path, never from the network.

`ducklake` and `sqlite_scanner` (and `postgres_scanner` and `httpfs`, of the extra ``scale``) come as wheels
``duckdb-extension-...`` of exactly DuckDB's version; DuckDB checks their signature, of each file once in a process. It
derives an extension's entry point from its file name, and the sqlite wheel holds the file as
``sqlite.duckdb_extension``: it is presented under the name it needs by a link.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import tempfile
from hashlib import sha256
from pathlib import Path

import duckdb

from records.errors import ToolMissing
from warehouse.place import quoted

__all__ = ["extension_path", "is_checked", "load"]

_PATHS: dict[str, Path] = {}
#: Extension -> the file that DuckDB has loaded in this process with its signature checked: device, inode, size, time of change.
_CHECKED: dict[str, tuple[int, int, int, int]] = {}


def _from_wheel(module: str, file_name: str) -> Path:
    spec = importlib.util.find_spec(module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "extensions" / f"v{duckdb.__version__}" / file_name
        if path.is_file():
            return path
    wheel = module.replace("_", "-")
    raise ToolMissing(
        f"DuckDB {duckdb.__version__} needs the wheel {wheel} of the same version; pip install '{wheel}=={duckdb.__version__}'"
    )


def _present_as(target: Path, name: str) -> Path:
    """A link called `name` to `target`, in the user's cache, or in a folder of this process where there is none."""
    key = sha256(str(target).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path(os.path.expanduser("~")) / ".cache")  # noqa: PTH111 - Path.home() raises for a user without one
    try:
        return _link(target, cache / "isochrone" / "duckdb" / key / name)
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="isochrone-duckdb-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return _link(target, folder / name)


def _link(target: Path, link: Path) -> Path:
    if link.is_symlink() and link.readlink() == target:
        return link
    link.parent.mkdir(parents=True, exist_ok=True)
    # Several processes may start at once: make it aside, then put it in place in one step.
    aside = link.with_name(f"{link.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    aside.symlink_to(target)
    aside.replace(link)
    return link


def extension_path(name: str) -> Path:
    """Path of one extension: ducklake, sqlite_scanner, postgres_scanner or httpfs.

    Raises ToolMissing when its wheel is not installed in DuckDB's own version.
    """
    if name not in _PATHS:  # found once per process
        if name == "sqlite_scanner":
            path = _present_as(_from_wheel("duckdb_extension_sqlite", "sqlite.duckdb_extension"), "sqlite_scanner.duckdb_extension")
        else:
            path = _from_wheel(f"duckdb_extension_{name}", f"{name}.duckdb_extension")
        _PATHS[name] = path
    return _PATHS[name]


def is_checked(name: str) -> bool:
    """Whether DuckDB has checked the signature of this extension's file in this process, and it is that file still.

    The library is mapped by then, and the system takes the same file for the same library.
    """
    return _CHECKED.get(name) == _identity(name)


def load(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Load an extension; DuckDB checks its signature unless the connection allows unsigned ones (see is_checked).

    Raises ToolMissing and duckdb.Error.
    """
    found = _identity(name)
    connection.execute(f"LOAD {quoted(extension_path(name))}")
    _CHECKED[name] = found


def _identity(name: str) -> tuple[int, int, int, int]:
    stat = extension_path(name).stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_ctime_ns
