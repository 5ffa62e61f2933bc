"""A warehouse opened and asked beside the rest of a command's start: half of a short command is DuckDB loading its extensions and
reading links, which needs little Python, while Python loads the planner and reads the inventory.
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
    from warehouse.queries import LinkSnapshot

__all__ = ["Opening", "load_links"]


class Opening:
    """A warehouse that is being opened and asked for its links; `links` waits for it and says why it could not be.

    The window and the age are those of app.commands.routes.evidence_options.
    """

    def __init__(self, warehouse: str, window_s: float, max_age_s: float) -> None:
        self._policy = GatePolicy(max_age_s=None if math.isinf(max_age_s) else max_age_s)
        window = None if math.isinf(window_s) else timedelta(seconds=window_s)
        threads = ThreadPoolExecutor(1)
        self._opened = threads.submit(_open, warehouse)
        self._found = threads.submit(lambda: _ask(self._opened.result(), window))
        threads.shutdown(wait=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._found.exception() is None or self._opened.exception() is None:
            self._opened.result().close()

    def links(self) -> answers.Links:
        """The graded links."""
        from app import answers

        inventory = load()
        found = self._found.result()
        return answers.graded(found, self._opened.result().address, policy=self._policy, inventory=inventory)

    def moments(self, keys: Collection[tuple[str, str, str]]) -> Mapping[tuple[str, str, str], Mapping[int, Histogram]]:
        """The samples of some links by time bucket, for as long as the warehouse is open."""
        from warehouse.moments import link_moments

        found = self._found.result()
        return link_moments(self._opened.result(), keys, now=found.now, window=found.window)


def load_links(warehouse: str, window_s: float, max_age_s: float) -> answers.Links:
    """The graded links of a warehouse; see Opening."""
    with Opening(warehouse, window_s, max_age_s) as opening:
        return opening.links()


def _open(warehouse: str) -> Warehouse:
    from warehouse import open_warehouse

    return open_warehouse(warehouse, check_signatures=False)


def _ask(opened: Warehouse, window: timedelta | None) -> LinkSnapshot:
    from warehouse import queries

    return queries.link_snapshot(opened, now=datetime.now(UTC), window=window)
