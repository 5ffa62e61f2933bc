"""A real lab for the tests that send packets: started once, shared, and taken down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import namespaces
from lab.namespace_lab import NamespaceLab
from lab.topology import builtin
from lab.world import start


@pytest.fixture(scope="session")
def namespace_support() -> namespaces.Support:
    """How namespaces can be had here; skips the test where they cannot."""
    support = namespaces.support()
    if support.how is None:
        pytest.skip(f"no network namespaces here: {support.reason}")
    return support


@pytest.fixture(scope="session")
def demo_lab(namespace_support: namespaces.Support, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NamespaceLab]:
    """The demo world without inference servers."""
    lab = start(builtin("demo-14"), tmp_path_factory.mktemp("demo"), "namespaces", serving=False)
    assert isinstance(lab, NamespaceLab)
    yield lab
    lab.stop()


@pytest.fixture
def triangle_lab(namespace_support: namespaces.Support, tmp_path: Path) -> Iterator[NamespaceLab]:
    """A small lab of the test's own, to be changed at will."""
    lab = start(builtin("triangle"), tmp_path, "namespaces", serving=False)
    assert isinstance(lab, NamespaceLab)
    yield lab
    lab.stop()
