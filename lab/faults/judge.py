"""The judgement that every scenario ends in, and the clock that says how long it took until all was right again."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lab.faults.collector import Collector
from probes.segment import OPEN, SEALED
from warehouse import open_warehouse
from warehouse.maintain import verify

__all__ = ["Books", "Outcome", "Watch", "read_books", "spooled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a scenario.

    made      probe packets measured, by a count of its own (the reflector's, or that of whoever wrote them into a spool)
    stored    of these, packets in the warehouse; `twice`: rows beyond the first of the same packet
    lost      made but not stored, for all that the agents could do
    allowed   how many may be lost by `bound`, which is what was stated before
    rejects   lines kept as rejects, by reason
    faults    what `isochrone warehouse verify` says, and whatever else should not be
    first_s   from the end of the fault until the first packet was stored
    right_s   from the end of the fault until everything that had waited was stored
    notes     what else was seen
    """

    made: int
    stored: int
    lost: int
    allowed: int = 0
    bound: str = "nothing"
    twice: int = 0
    rejects: Mapping[str, int] = field(default_factory=dict)
    faults: Sequence[str] = ()
    first_s: float | None = None
    right_s: float | None = None
    notes: Sequence[str] = ()
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_kept(self) -> bool:
        """Whether nothing is lost beyond its bound, doubled or broken, and all became right again."""
        return self.lost <= self.allowed and self.lost >= 0 and not self.twice and not self.faults and self.right_s is not None

    def json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"ok": self.is_kept, **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What a warehouse holds: packets and measurements of each (agent, boot), rows beyond the first of a packet, rejects, faults."""

    packets: Mapping[tuple[str, str], int]
    measurements: Mapping[tuple[str, str], int]
    twice: int
    rejects: Mapping[str, int]
    faults: Sequence[str]
    #: Ping rounds among the rejects, by reason.
    rejected_rounds: Mapping[str, int]

    @property
    def stored(self) -> int:
        """Different packets."""
        return sum(self.packets.values())


def read_books(warehouse: str) -> Books:
    """Read them from a warehouse that nobody writes to any more."""
    with open_warehouse(warehouse) as wh, wh.cursor() as cursor:
        rows = cursor.execute(
            "SELECT agent, boot, count(*), count(DISTINCT (measurement_id, sequence)), count(DISTINCT measurement_id) "
            "FROM ping_sample GROUP BY ALL"
        ).fetchall()
        rejects = cursor.execute(
            'SELECT reason, count(*), count(*) FILTER (line LIKE \'%"type":"ping"%\') FROM reject GROUP BY ALL'
        ).fetchall()
        faults = verify(wh)
    return Books(
        packets={(agent, boot): packets for agent, boot, _, packets, _ in rows},
        measurements={(agent, boot): count for agent, boot, _, _, count in rows},
        twice=sum(count - packets for _, _, count, packets, _ in rows),
        rejects={reason: count for reason, count, _ in rejects},
        rejected_rounds={reason: rounds for reason, _, rounds in rejects},
        faults=faults,
    )


def spooled(spools: Iterable[Path]) -> set[tuple[str, str, str]]:
    """(folder, boot, sequence) of every segment in some spools."""
    found = set()
    for spool in spools:
        try:
            names = [path.name for path in spool.iterdir()]
        except OSError:
            continue
        for name in names:
            if match := SEALED.fullmatch(name) or OPEN.fullmatch(name):
                found.add((str(spool), match[2], match[3]))
    return found


class Watch:
    """Looks on from the moment that a fault ends, which is when this is made.

    spools  where something waits; what is there now is the backlog
    """

    def __init__(self, collector: Collector, spools: Sequence[Path]) -> None:
        self.began_s = time.monotonic()
        self._collector, self._spools = collector, spools
        self._before = collector.rows()
        self.backlog = spooled(spools)

    def wait(self, timeout_s: float = 120.0) -> tuple[float | None, float | None]:
        """(seconds until the first packet was stored, until the backlog was gone); None for what did not happen in time."""
        first_s = right_s = None
        rows = self._before
        while (waited_s := time.monotonic() - self.began_s) < timeout_s and (first_s is None or right_s is None):
            now = self._collector.rows()
            # Started again, it counts from nothing.
            if first_s is None and now and (rows is None or now > rows or now < rows):
                first_s = waited_s
            if rows is None and now is not None:
                rows = now
            if right_s is None and not (self.backlog & spooled(self._spools)):
                right_s = waited_s
            time.sleep(0.05)
        return first_s, right_s if first_s is not None else None


def measurements_in(segment: Path) -> int:
    """How many measurements a sealed segment holds, by its name."""
    match = re.fullmatch(SEALED, segment.name)
    return int(match[4]) if match else 0
