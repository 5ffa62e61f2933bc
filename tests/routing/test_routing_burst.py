"""The queue in time: it settles where the steady state is, drains by hand, grows as a fluid, and equals a simulation."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from routing_kit import profile
from scipy.linalg import expm

from records.units import MS, SECOND
from routing.burst import transient
from routing.queueing import capacity_rps, service_ns, solve

SIZES = {"input_tokens": 1000, "output_tokens": 101}


def test_it_settles_where_the_steady_state_is():
    """After long at 5 req/s the M/M/1 waits 180 ms (rho 0.6, S 120 ms), the batch server what routing.queueing says."""
    last = transient(profile(max_batch=1), 1, [5.0], 400.0, **SIZES)[-1]
    assert last.wait_ns / MS == pytest.approx(180, rel=1e-3)
    batch = profile(max_batch=8, beta_ns=MS // 10)
    rate = 0.9 * capacity_rps(batch, 2, 1000, 101)
    last = transient(batch, 2, [rate], 600.0, **SIZES)[-1]
    assert last.wait_ns == pytest.approx(solve(batch, 2, rate, **SIZES).wait_mean_ns, rel=5e-3)
    assert last.overflow < 1e-9


def test_above_capacity_it_grows_as_a_fluid_and_drains_again():
    """M/M/1 of 8.33 req/s at 20 for 60 s: (20 - 8.33) x 60 = 700 wait; then at 0, 700 / 8.33 = 84 s until it is empty."""
    found = transient(profile(max_batch=1), 1, [20.0, 0.0, 0.0], 60.0, **SIZES)
    assert found[0].waiting == pytest.approx(700, rel=0.01)
    assert found[0].wait_ns / SECOND == pytest.approx(700 * 0.12, rel=0.01)
    assert found[1].waiting == pytest.approx(700 - 500, rel=0.02)
    assert found[2].waiting < 1


def test_equals_a_simulation_of_the_same_chain():
    """M/M/4 by events, 400 runs of 20 s at 1.5 times its rate: the mean number waiting within four standard errors."""
    flat = profile(max_batch=4, delta_ns=0, gamma_ns=0)
    rate = 1.5 * capacity_rps(flat, 1, 1000, 101)
    (moment,) = transient(flat, 1, [rate], 20.0, resolution_s=0.05, **SIZES)
    rng = np.random.default_rng(1)
    waiting = []
    for _ in range(400):
        busy, queue, now = [], 0, 0.0
        while True:
            now += rng.exponential(1 / rate)
            end = min(now, 20.0)
            while busy and busy[0] <= end:
                done = heapq.heappop(busy)
                if queue:
                    queue -= 1
                    heapq.heappush(busy, done + rng.exponential(0.1))
            if now > 20.0:
                break
            if len(busy) < 4:
                heapq.heappush(busy, now + rng.exponential(0.1))
            else:
                queue += 1
        waiting.append(queue)
    error = np.std(waiting) / len(waiting) ** 0.5
    assert moment.waiting == pytest.approx(np.mean(waiting), abs=4 * error + 0.01 * np.mean(waiting))


def _exact(slots: int, served: np.ndarray, rates: list[float], step_s: float, states: int) -> list[float]:
    """Mean number waiting at the end of each step: the matrix exponential of the chain's generator, states counted from empty."""
    mu = np.concatenate(([0.0], served, np.full(states - slots - 1, served[-1])))
    p, queued, found = np.eye(states)[0], np.maximum(0, np.arange(states) - slots), []
    for rate in rates:
        birth = np.append(np.full(states - 1, rate), 0.0)
        generator = np.diag(-(birth + mu)) + np.diag(birth[:-1], -1) + np.diag(mu[1:], 1)
        p = expm(generator * step_s) @ p
        found.append(float(p @ queued))
    return found


def test_steps_of_five_seconds_are_true_to_half_a_percent():
    """A batch server of 16 slots through a burst to 1.3 times its rate and back: against the matrix exponential (0.2 where few wait)."""
    batch = profile(max_batch=16, beta_ns=MS // 2)
    held = np.array([service_ns(batch, n, 1000, 101) for n in range(1, 17)]) / SECOND
    served = np.arange(1, 17) / held
    rates = [share * float(served[-1]) for share in (0.6, 0.9, 1.1, 1.3, 1.2, 0.8, 0.7, 0.6, 0.6)]
    exact = _exact(16, served, rates, 30.0, 500)
    found = transient(batch, 1, rates, 30.0, resolution_s=5.0, **SIZES)
    assert max(exact) > 100
    for moment, waiting in zip(found, exact, strict=True):
        assert moment.waiting == pytest.approx(waiting, rel=5e-3, abs=0.2)


def test_no_probability_is_lost_in_many_short_steps():
    """3,200 slots of half a minute for ten minutes at 60 %, looked at four times a second: Little's law holds for those in service."""
    batch = profile(max_batch=32, beta_ns=0, delta_ns=0, gamma_ns=30 * SECOND)
    rate = 0.6 * capacity_rps(batch, 100, 1000, 101)
    last = transient(batch, 100, [rate] * 10, 60.0, resolution_s=0.25, **SIZES)[-1]
    assert last.in_service == pytest.approx(rate * service_ns(batch, 1, 1000, 101) / SECOND, rel=1e-6)


def test_probability_is_kept_and_nonsense_refused():
    """No arrivals: nothing waits; negative and NaN rates are no rates."""
    assert transient(profile(), 1, [0.0], 10.0, **SIZES)[0].waiting == 0
    for wrong in ([-1.0], [float("nan")]):
        with pytest.raises(ValueError, match="rates from 0 up"):
            transient(profile(), 1, wrong, 10.0, **SIZES)
