"""Pools for sweeps: processes and Dask give the answers of one process, bit for bit, with workers that die on the way."""

from __future__ import annotations

import multiprocessing
import os
import signal
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from app.pools import check_address, chunk_of, dask, processes
from records.errors import UserError
from routing.sweep import chunked, failure_effects


def square_or_die(mark: Path, x: int) -> int:
    """Kills its own process once, at 7."""
    if x == 7 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return x * x


def environment(_x: int) -> str | None:
    return os.environ.get("MALLOC_TRIM_THRESHOLD_")


@pytest.fixture(scope="module")
def sweep():
    rng = np.random.default_rng(3)
    direct = rng.uniform(1, 60, (30, 30))
    direct[rng.random(direct.shape) < 0.5] = np.inf
    np.fill_diagonal(direct, np.inf)
    failures = [*combinations(range(30), 2)][:80]
    return direct, failures, failure_effects(direct, failures)


def test_processes_answer_as_one_does_and_outlive_a_lost_one(sweep, tmp_path):
    """Equal to the bit; the pool with a killed process is replaced; afterwards no process is left."""
    direct, failures, here = sweep
    with processes(2) as pool:
        assert failure_effects(direct, failures, chunk=10, **pool) == here
        assert chunked(partial(square_or_die, tmp_path / "m"), range(20), chunk=3, **pool) == [x * x for x in range(20)]
    assert not [child for child in multiprocessing.active_children() if child.is_alive()]
    with processes(1) as alone:
        assert failure_effects(direct, failures, **alone) == here


def test_dask_answers_as_one_process_does_and_outlives_a_killed_worker(sweep, tmp_path):
    """A cluster of two on loopback: equal to the bit, a killed worker's chunk done by another, glibc told to keep its memory."""
    direct, failures, here = sweep
    with dask(count=2) as pool:
        assert pool["workers"] == 2
        assert failure_effects(direct, failures, chunk=20, **pool) == here
        assert chunked(partial(square_or_die, tmp_path / "m"), range(20), chunk=3, **pool) == [x * x for x in range(20)]
        assert int(chunked(environment, [0], **pool)[0]) > 65536


def test_a_scheduler_that_is_not_there_is_named():
    """An address nobody listens at: what it was and what one looks like."""
    with (
        pytest.raises(UserError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9.*as in tcp://host:8786"),
        dask("tcp://127.0.0.1:9", timeout_s=1),
    ):
        pass


@pytest.mark.parametrize("address", ["foo", "tcp://", "tcp://host", "host:port", "http://host:80", ""])
def test_what_is_no_address_is_told_at_once(address):
    """Dask tries for long and then prints a traceback; the form is looked at first."""
    with pytest.raises(UserError, match=r"no address of a Dask scheduler; give one as in tcp://host:8786"):
        check_address(address)
    for good in ("tcp://127.0.0.1:8786", "host:8786", "tls://[::1]:8786"):
        check_address(good)


def test_a_chunk_is_worth_a_tenth_of_a_second_and_leaves_no_worker_idle():
    """A call of next to nothing goes in as few chunks as there are workers."""
    assert chunk_of(abs, -1, count=100, workers=2) == 50
    assert chunk_of(abs, -1, count=0, workers=2) == 1
