"""Warehouses in temporary folders, open for writing; copies of the empty one of tests/conftest.py."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from warehouse import Warehouse, open_warehouse
from warehouse.columns import COLUMNS


@pytest.fixture
def own(kept: Path) -> Iterator[Warehouse]:
    """A new warehouse for one test alone, which may do it harm."""
    with open_warehouse(kept, mode="write") as warehouse:
        yield warehouse


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, empty_warehouse: Path) -> Iterator[Warehouse]:
    """One warehouse for all tests of a module, which only read it or fill it once."""
    place = tmp_path_factory.mktemp("shared") / "kept"
    shutil.copytree(empty_warehouse, place)
    with open_warehouse(place, mode="write") as warehouse:
        yield warehouse


@pytest.fixture
def wh(shared: Warehouse) -> Warehouse:
    """The module's warehouse without a row."""
    with shared.transaction() as cursor:
        for name in COLUMNS:
            cursor.execute(f"DELETE FROM {name}")  # noqa: S608 - the names are ours
    return shared
