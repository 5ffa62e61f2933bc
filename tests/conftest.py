"""What tests of all packages share: an empty warehouse, and labs with real packets and known truth. Each is made once a session.

Tests that use one are marked `lab`, and with that `alone`: scripts/run-tests runs them apart, those that are marked `waits` too beside
what computes. Outside tests/lab and tests/probes they are in files called test_<package>_lab.py.
"""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from lab_measured import Measured, measure

from lab import namespaces
from lab.links import Change
from lab.namespace_lab import NamespaceLab
from lab.topology import builtin
from lab.world import start

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("untimed", deadline=None)
# Fuzz at length: pytest --hypothesis-profile=slow
settings.register_profile("slow", deadline=None, max_examples=10_000)
settings.load_profile("untimed")


# Of a job in the background a shell has Ctrl-C ignored, and so would be every process that a test starts and stops by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def all_cores() -> Iterator[None]:
    """Warehouses as users have them, DuckDB on every core: scripts/run-tests gives it one where two workers share the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ISOCHRONE_DUCKDB_THREADS", raising=False)
        yield


@pytest.fixture(scope="session")
def empty_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse made once, to be copied: a folder is whole wherever it goes, and making one takes ten times as long."""
    from warehouse import open_warehouse

    place = tmp_path_factory.mktemp("template") / "kept"
    open_warehouse(place, mode="write").close()
    return place


@pytest.fixture
def kept(tmp_path: Path, empty_warehouse: Path) -> Path:
    """The folder of a new warehouse for one test alone; nobody has it open."""
    shutil.copytree(empty_warehouse, tmp_path / "kept")
    return tmp_path / "kept"


#: A mark of a test that runs apart.
_APART = re.compile(r"\bmark\.(alone|lab|waits)\b")

#: The files that take longest, the longest first: what is begun first leaves no worker alone with it at the end.
LONGEST = (
    "test_browser_pages",
    "test_app_pages",
    "test_warehouse_scaled",
    "test_browser_tasks",
    "test_warehouse_care",
    "test_warehouse_once",
    "test_warehouse_backup",
    "test_warehouse_collector",
    "test_app_whatif",
    "test_warehouse_queries",
    "test_warehouse_readable",
    "test_app_decisions",
    "test_app_said",
    "test_app_same",
    "test_app_routes",
    "test_warehouse_store",
    "test_warehouse_rollup",
    "test_warehouse_connect",
    "test_warehouse_workbench",
)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Of the parts that scripts/run-tests runs apart: a file that marks no test so is not imported, which takes longer than most tests."""
    is_apart = config.getoption("markexpr").startswith(("waits", "alone"))
    if is_apart and collection_path.match("test_*.py"):
        return True if _APART.search(collection_path.read_text("utf-8")) is None else None
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What sends packets through a lab runs alone; the longest files come first; of two workers one has all that the large lab is for."""
    for item in items:
        if item.get_closest_marker("lab"):
            item.add_marker("alone")
        item.add_marker(pytest.mark.xdist_group("wan" if "wan" in getattr(item, "fixturenames", ()) else item.path.stem))
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope="session")
def namespace_support() -> namespaces.Support:
    """How namespaces can be had here; skips the test where they cannot."""
    support = namespaces.support()
    if support.how is None:
        pytest.skip(f"no network namespaces here: {support.reason}")
    return support


@pytest.fixture(scope="session")
def wan(namespace_support: namespaces.Support, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NamespaceLab]:
    """The lab of the session: the demo's world, without inference servers. Who changes a link restores it."""
    lab = start(builtin("world-24"), tmp_path_factory.mktemp("wan"), "namespaces", serving=False)
    assert isinstance(lab, NamespaceLab)
    yield lab
    lab.stop()


@pytest.fixture(scope="session")
def measured(wan: NamespaceLab, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Some of its sites as agents measured them, through a collector into a warehouse."""
    return measure(wan, tmp_path_factory.mktemp("measured"))


@pytest.fixture(scope="session")
def _triangle(namespace_support: namespaces.Support, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NamespaceLab]:
    lab = start(builtin("triangle"), tmp_path_factory.mktemp("triangle"), "namespaces", serving=False)
    assert isinstance(lab, NamespaceLab)
    yield lab
    lab.stop()


@pytest.fixture
def triangle_lab(_triangle: NamespaceLab) -> Iterator[NamespaceLab]:
    """A small lab to be changed at will: after each test its links are as they were."""
    yield _triangle
    for link in _triangle.status()["changed"]:
        _triangle.change(link["src"], link["dst"], Change(op="restore"), medium=link["medium"], both=False)
