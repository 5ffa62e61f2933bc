"""What one process knows to be stored of the batches' names, so that a commit need not look through all of them.

Agents number the batches of a boot in order. Of each boot that came by, the highest number stored is kept here; what has a higher one is
new. That holds as long as nobody else has stored batches meanwhile, which the catalog tells: then all is forgotten, and asked again.
Only for an embedded warehouse, whose writers take turns; where several write at one time, every batch is looked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from records.batch import BatchName
from warehouse.statements import bound, statement

__all__ = ["StoredNames"]

#: Boots that are remembered at most.
_MOST = 100_000


class Boot(NamedTuple):
    """One run of an agent's process."""

    agent: str
    boot: str


class StoredNames:
    """The highest batch number stored of each boot, as of one snapshot; for whoever holds the warehouse's lock.

    is_alone   nobody writes between the beginning of our transactions and their commit
    """

    def __init__(self, *, is_alone: bool) -> None:
        self._is_alone = is_alone
        self._snapshot_id: int | None = None
        self._highest: dict[Boot, int] = {}

    def look_up(self, cursor: duckdb.DuckDBPyConnection, names: Collection[BatchName]) -> dict[BatchName, str]:
        """Those of the names that are stored, and the SHA-256 of their content; within the transaction of `cursor`."""
        self._follow(cursor)
        unsure = [name for name in names if name.sequence <= self._highest.get(Boot(name.agent, name.boot), name.sequence)]
        if not unsure:
            return {}
        sequences: dict[Boot, list[int]] = {}
        for name in unsure:
            sequences.setdefault(Boot(name.agent, name.boot), []).append(name.sequence)
        found: dict[BatchName, str] = {}
        # None found from the least on: what is stored is below it.
        highest = {boot: min(some) - 1 for boot, some in sequences.items()}
        for agent, boot, number, contents in _ask(cursor, sequences):
            highest[Boot(agent, boot)] = number
            found |= {BatchName(agent, boot, item["sequence"]): item["content_sha256"] for item in contents or ()}
        self._highest |= highest
        return found

    def stored(self, names: Iterable[BatchName]) -> None:
        """These have been committed by the transaction in which they were looked up, before the lock is given back."""
        if self._snapshot_id is None:
            return
        is_written = False
        for name in names:
            boot = Boot(name.agent, name.boot)
            self._highest[boot] = max(self._highest.get(boot, -1), name.sequence)
            is_written = True
        self._snapshot_id += is_written

    def forget(self) -> None:
        """It is not known what became of a transaction."""
        self._snapshot_id = None
        self._highest.clear()

    def _follow(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Bring it to the snapshot of the transaction."""
        (now,) = cursor.execute("SELECT id FROM wh.current_snapshot()").fetchone() or (None,)
        before = self._snapshot_id
        if not self._is_alone or before is None or len(self._highest) > _MOST or (now != before and _is_added(cursor, before)):
            self.forget()
        self._snapshot_id = now if self._is_alone else None


def _is_added(cursor: duckdb.DuckDBPyConnection, since: int) -> bool:
    """Whether batches were committed after a snapshot, by whomever."""
    text, _ = bound("ingest/added_batches", {"mark": since})
    if cursor.execute(text).fetchall():
        return True
    tables = cursor.execute(statement("ingest/inlined_batches")).fetchall()
    ask = 'SELECT 1 FROM __ducklake_metadata_wh."{}" WHERE begin_snapshot > {} LIMIT 1'
    return any(cursor.execute(ask.format(name, since)).fetchall() for (name,) in tables)


def _ask(cursor: duckdb.DuckDBPyConnection, sequences: Mapping[Boot, list[int]]) -> list[tuple[str, str, int, list[dict[str, Any]] | None]]:
    incoming = pa.table(
        {
            "agent": pa.array([boot.agent for boot in sequences], pa.string()),
            "boot": pa.array([boot.boot for boot in sequences], pa.string()),
            "sequences": pa.array(sequences.values(), pa.list_(pa.int64())),
            "least": pa.array([min(some) for some in sequences.values()], pa.int64()),
        }
    )
    cursor.register("incoming", incoming)
    try:
        text, _ = bound("ingest/known_batches", {"least": min(map(min, sequences.values()))})
        rows: list[tuple[str, str, int, list[dict[str, Any]] | None]] = cursor.execute(text).fetchall()
        return rows
    finally:
        cursor.unregister("incoming")
