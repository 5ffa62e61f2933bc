"""Scenarios over an executor: the order and the bits of the answers, and workers that die on the way."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from routing.engine import best
from routing.sweep import WorkersLost, chunked, failure_effects

FORKSERVER = multiprocessing.get_context("forkserver")


def pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(2, mp_context=FORKSERVER)


def square_or_die(mark: Path, x: int) -> int:
    """Kills its own process once, at 7; the mark on disk says that it was done."""
    if x == 7 and not mark.exists():
        mark.touch()
        os._exit(9)
    return x * x


def die(_x: int) -> int:
    os._exit(9)


def refuse(x: int) -> int:
    raise ValueError(f"no {x}")


@pytest.fixture(scope="module")
def fleet():
    rng = np.random.default_rng(9)
    direct = rng.integers(1, 60, (25, 25)).astype(float)
    direct[rng.random(direct.shape) < 0.6] = np.inf
    np.fill_diagonal(direct, np.inf)
    return direct


def test_pairs_of_failures_have_the_same_effect_on_any_executor_and_by_brute_force(fleet):
    """Here, in threads and in two processes: equal to the bit; and the sums are those of a network solved again."""
    failures = [(a,) for a in range(25)] + list(combinations(range(25), 2))[:60]
    here = failure_effects(fleet, failures)
    with pool() as processes, ThreadPoolExecutor(2) as threads:
        assert failure_effects(fleet, failures, executor=processes, chunk=7) == here
        assert failure_effects(fleet, failures, executor=threads) == here
    before = best(fleet).cost
    for effect in here:
        left = fleet.copy()
        left[list(effect.gone)] = left[:, list(effect.gone)] = np.inf
        after = best(left).cost
        stays = np.ix_(*[np.delete(np.arange(25), effect.gone)] * 2)
        was, now = before[stays], after[stays]
        joined = np.isfinite(was)
        assert effect.lost_pairs == (joined & np.isinf(now)).sum()
        both = np.isfinite(now) & joined
        assert effect.slower_pairs == (now[both] > was[both]).sum()
        assert effect.added_ms == pytest.approx((now[both] - was[both]).sum())
        assert effect.worst_ms == pytest.approx((now[both] - was[both]).max(initial=0))


def test_a_worker_lost_on_the_way_is_made_up_for(tmp_path):
    """The process that does 7 dies; a new pool does what was left; every answer is there once and in order."""
    pools: list[ProcessPoolExecutor] = []

    def renew():
        pools.append(pool())
        return pools[-1]

    found = chunked(partial(square_or_die, tmp_path / "died"), range(20), executor=renew(), chunk=2, renew=renew)
    assert found == [x * x for x in range(20)]
    assert len(pools) == 2
    for made in pools:
        made.shutdown()


def test_workers_that_always_die_end_the_sweep_with_a_word():
    """Bounded: two pools, then an error that says how far it came and what to change."""
    pools = [pool(), pool()]
    with pytest.raises(WorkersLost, match=r"lost 2 times with 0 of 3 chunks done .* fewer workers"):
        chunked(die, range(3), executor=pools[0], chunk=1, renew=lambda: pools[1], attempts=1)
    for made in pools:
        made.shutdown()


def test_an_error_of_the_function_is_no_lost_worker():
    """It is raised as it is, at once."""
    with ThreadPoolExecutor(1) as threads, pytest.raises(ValueError, match="no 0"):
        chunked(refuse, range(3), executor=threads)


def test_nothing_to_do():
    """No scenario, no answer; a loss of nothing changes nothing."""
    assert chunked(abs, [], executor=None) == []
    (effect,) = failure_effects(np.full((3, 3), 5.0), [()])
    assert (effect.lost_pairs, effect.slower_pairs, effect.added_ms) == (0, 0, 0.0)


@pytest.mark.parametrize(("count", "chunk", "workers"), [(100, 10, 2), (7, 10, 2), (0, 3, 2), (41, 8, 3), (5, 1, 2), (1000, 50, 2)])
def test_tasks_hold_every_item_once_in_order_and_the_last_are_small(count, chunk, workers):
    """No task is above what was asked for; each of the last one for each worker is a quarter of it at most."""
    sizes: list[int] = []

    class Here(Executor):
        def submit(self, function, /, *args, **kwargs):
            sizes.append(len(args[1]))
            done = Future()
            done.set_result(function(*args, **kwargs))
            return done

    assert chunked(abs, range(-count, 0), executor=Here(), chunk=chunk, workers=workers) == list(range(count, 0, -1))
    assert sum(sizes) == count
    assert max(sizes, default=0) <= chunk
    assert all(size <= max(1, chunk // 4) for size in sizes[-workers:])
