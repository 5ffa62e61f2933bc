"""Who may write: a lock among processes, which the kernel or PostgreSQL gives back when its holder dies.

Embedded: one writer at a time, by flock on a file of the folder. Scale-out: DuckLake lets several commit at the same time; what must
not happen at the same time is that two collectors store batches of one agent (each would find them new), or that two see to the
warehouse (each would roll up the same rows). Advisory locks of PostgreSQL keep these apart: one for each of 64 groups of agents, and
one for whoever cares for the whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Collection, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import duckdb

from records.errors import NotPermitted, OutsideError, WarehouseAway

__all__ = ["CATALOG_ALIAS", "CatalogLock", "FolderLock", "Lock", "alone", "say_open"]

LOCK = "writer.lock"
#: Held shared by whoever has the folder open for writing, and alone by who puts another catalog into it.
OPEN_LOCK = "open.lock"
TIMEOUT_S = 60.0
#: The catalog's own database, attached beside the lake.
CATALOG_ALIAS = "wh_catalog"
#: The first key of our advisory locks; the second is a group of agents, or the whole.
_CLASS, _GROUPS = 1_770_311_233, 64


class Lock(Protocol):
    """A lock of a warehouse among all processes."""

    def held(
        self, keys: Collection[str] | None = None, timeout_s: float = TIMEOUT_S
    ) -> contextlib.AbstractContextManager[Callable[[], None]]:
        """Hold it for some agents, or as the one who cares for the whole (None); what it gives raises once it is lost.

        Raises WarehouseAway when it is not free within `timeout_s`.
        """
        ...


def _whole() -> None:
    """A flock is never lost while its holder lives."""


class FolderLock:
    """The lock of an embedded warehouse: one holder at a time, whatever for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.contextmanager
    def held(self, keys: Collection[str] | None = None, timeout_s: float = TIMEOUT_S) -> Iterator[Callable[[], None]]:
        """Raises NotPermitted when the lock's file cannot be opened."""
        folder = self._folder
        try:
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        except PermissionError as error:
            raise NotPermitted(f"cannot write to the warehouse {folder}: {error.strerror}; grant this user write access to it") from error
        except OSError as error:
            raise WarehouseAway(f"cannot write to the warehouse {folder}: {error.strerror}") from error
        try:
            deadline = time.monotonic() + timeout_s
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise WarehouseAway(f"another process has been writing to {folder} for over {timeout_s:.0f} s; try again") from None
                    time.sleep(0.005)
            yield _whole
        finally:
            os.close(handle)


def _open_lock(folder: Path) -> int:
    """Reading is enough to lock it: whoever made it, others may. Raises NotPermitted or OutsideError."""
    try:
        return os.open(folder / OPEN_LOCK, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o664)
    except PermissionError as error:
        raise NotPermitted(f"cannot write to the warehouse {folder}: {error.strerror}; grant this user write access to it") from error
    except OSError as error:
        raise OutsideError(f"cannot write to the warehouse {folder}: {error.strerror}") from error


def say_open(folder: Path) -> int:
    """Hold the warehouse open for writing until the handle that this gives is closed; no wait, for only a roll-back holds it alone."""
    handle = _open_lock(folder)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise OutsideError(f"the warehouse {folder} is being rolled back at this moment; try again when that is done") from None
    return handle


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else has the warehouse open for writing. Raises OutsideError while somebody has."""
    handle = _open_lock(folder)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise OutsideError(f"a collector has the warehouse {folder} open; stop it first, agents keep what they measure") from None
    finally:
        os.close(handle)


class CatalogLock:
    """The locks of a scaled-out warehouse, in the catalog that `connection` has attached as ``wh_catalog``.

    They live as long as a transaction of PostgreSQL, which ends with the connection that it is on.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    @contextlib.contextmanager
    def held(self, keys: Collection[str] | None = None, timeout_s: float = TIMEOUT_S) -> Iterator[Callable[[], None]]:
        """Raises OutsideError when PostgreSQL cannot be reached either."""
        groups = sorted({_group(key) for key in keys}) if keys is not None else [_GROUPS]
        # In order, so that two who want several wait for each other one way only.
        locks = f"SELECT pg_advisory_xact_lock({_CLASS}, g) AS got FROM unnest(ARRAY{groups}) AS g"  # noqa: S608 - numbers of ours
        ask = f"SELECT count(CAST(got AS text)) FROM ({locks}) AS t"  # noqa: S608
        limit = f"SET LOCAL lock_timeout = {max(1, round(1000 * timeout_s))}"
        with self._connection.cursor() as cursor:
            cursor.execute("BEGIN")
            try:
                try:
                    cursor.execute(f"CALL postgres_execute('{CATALOG_ALIAS}', '{limit}')")
                    cursor.execute(f"FROM postgres_query('{CATALOG_ALIAS}', '{ask}')").fetchall()
                except duckdb.Error as error:
                    if "lock timeout" in str(error):
                        raise WarehouseAway(f"another process has been writing for over {timeout_s:.0f} s; try again") from None
                    raise

                def check() -> None:
                    cursor.execute(f"FROM postgres_query('{CATALOG_ALIAS}', 'SELECT 1')").fetchall()

                yield check
            finally:
                with contextlib.suppress(duckdb.Error):
                    cursor.execute("ROLLBACK")


def _group(key: str) -> int:
    return int.from_bytes(sha256(key.encode()).digest()[:4], "big") % _GROUPS
