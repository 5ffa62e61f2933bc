"""A warehouse opened beside the rest of a command's start: half of a short command is DuckDB loading its extensions,
which needs no Python, while Python loads NumPy and the planner and reads the inventory.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from inventory.load import load
from routing.gates import GatePolicy

if TYPE_CHECKING:
    from app import answers
    from warehouse import Warehouse

__all__ = ["Opening", "load_links"]


class Opening:
    """A warehouse that is being opened for reading; `links` waits for it and says why it could not be."""

    def __init__(self, warehouse: str) -> None:
        threads = ThreadPoolExecutor(1)
        self._opened = threads.submit(_open, warehouse)
        threads.shutdown(wait=False)

    def links(self, window_s: float, max_age_s: float) -> answers.Links:
        """The graded links, as the options of app.commands.routes.evidence_options say; the warehouse is closed then."""
        from app import answers

        inventory = load()
        policy = GatePolicy(max_age_s=None if math.isinf(max_age_s) else max_age_s)
        window = None if math.isinf(window_s) else timedelta(seconds=window_s)
        with self._opened.result() as opened:
            return answers.load_links(opened, now=datetime.now(UTC), window=window, policy=policy, inventory=inventory)


def load_links(warehouse: str, window_s: float, max_age_s: float) -> answers.Links:
    """The graded links of a warehouse; see Opening."""
    return Opening(warehouse).links(window_s, max_age_s)


def _open(warehouse: str) -> Warehouse:
    from warehouse import open_warehouse

    return open_warehouse(warehouse)
