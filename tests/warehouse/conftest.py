"""A warehouse in a temporary folder, open for writing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from warehouse import Warehouse, open_warehouse


@pytest.fixture
def wh(tmp_path: Path) -> Iterator[Warehouse]:
    """An empty warehouse."""
    with open_warehouse(tmp_path / "kept", mode="write") as warehouse:
        yield warehouse


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """One warehouse for all tests of a module, which only read it or fill it once."""
    with open_warehouse(tmp_path_factory.mktemp("shared") / "kept", mode="write") as warehouse:
        yield warehouse
