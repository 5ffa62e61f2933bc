"""A warehouse opened beside the rest of a command's start: half of a short command is DuckDB loading its extensions,
which needs no Python, while Python loads NumPy and the planner and reads the inventory.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

from inventory.load import load
from routing.gates import GatePolicy

if TYPE_CHECKING:
    from app import answers
    from records.histogram import Histogram
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
        with self:
            return self.links_and_more(window_s, max_age_s)[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._opened.exception() is None:
            self._opened.result().close()

    def links_and_more(self, window_s: float, max_age_s: float) -> tuple[answers.Links, answers.MomentsOf]:
        """The graded links, and what gives the samples of some of them by time bucket for as long as the warehouse is open."""
        from app import answers

        inventory = load()
        policy = GatePolicy(max_age_s=None if math.isinf(max_age_s) else max_age_s)
        window = None if math.isinf(window_s) else timedelta(seconds=window_s)
        opened, now = self._opened.result(), datetime.now(UTC)

        def moments(keys: Collection[tuple[str, str, str]]) -> Mapping[tuple[str, str, str], Mapping[int, Histogram]]:
            from warehouse.moments import link_moments

            return link_moments(opened, keys, now=now, window=window)

        return answers.load_links(opened, now=now, window=window, policy=policy, inventory=inventory), moments


def load_links(warehouse: str, window_s: float, max_age_s: float) -> answers.Links:
    """The graded links of a warehouse; see Opening."""
    return Opening(warehouse).links(window_s, max_age_s)


def _open(warehouse: str) -> Warehouse:
    from warehouse import open_warehouse

    return open_warehouse(warehouse)
