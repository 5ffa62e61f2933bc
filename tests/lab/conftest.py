"""A real lab for the tests that send packets: started once, shared, and taken down."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import namespaces
from lab.namespace_lab import NamespaceLab
from lab.topology import builtin
from lab.truth import PairTruth
from lab.world import start

Run = Callable[..., str]


def run_at(lab: NamespaceLab, site: str, *argv: str, timeout_s: float = 60.0) -> str:
    """What a command at a site prints, on either stream."""
    done = subprocess.run(lab.command(site, argv), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False)
    return done.stdout + done.stderr


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


def truth_of(lab: NamespaceLab, src: str, dst: str, medium: str = "internet") -> PairTruth:
    """The truth of one pair."""
    return next(pair for pair in lab.truth() if (pair.src, pair.dst, pair.medium) == (src, dst, medium))
