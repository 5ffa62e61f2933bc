"""A pool through a burst: the birth-death chain of routing.queueing in time, not at rest.

Steady states say nothing of ten minutes over capacity: they have none. Here the chain's probabilities move with the
arrival rate, some seconds at a time (Kolmogorov's forward equations; the rate is constant within a step):

    dp_n/dt = lambda p_{n-1} - (lambda + mu_n) p_n + mu_{n+1} p_{n+1}

They are solved by the diagonally implicit Runge-Kutta method of two stages and second order that damps whatever is too fast for the
time between two evaluations (Alexander 1977): a stage is a tridiagonal system, the same for both.

Service times are taken as exponential, as in the steady state; slots and the batch's speed are the same. The number of
states is cut off at a queue the pool could never have grown to at the rates given (and at MOST_WAITING): what would be
beyond is `overflow`. How demand is split over pools is settled for each step's rates by themselves (stepwise equilibrium):
a router that knows the demand of the moment, and no memory in the split. All that remembers is the queues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from records.serving import PerfProfile
from records.units import SECOND
from routing.queueing import service_ns

__all__ = ["MOST_WAITING", "Moment", "transient"]

Floats = NDArray[np.float64]

MOST_WAITING = 20_000
#: The method's one number: with it the order is two, and what is infinitely fast is gone after one step.
_GAMMA = 1 - 0.5**0.5
#: Where less probability than this moves from one evaluation to the next, the rest of the step changes nothing.
_AT_REST = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A pool at the end of a step.

    waiting        mean number in the queue; in_service mean number in slots
    wait_ns        what an arrival now waits on average: it is served after those before it (Little's law at the rate served)
    overflow       probability that the cut-off was reached: 0 where the queue was long enough
    """

    at_s: float
    rps: float
    waiting: float
    in_service: float
    wait_ns: float
    overflow: float


def transient(
    profile: PerfProfile,
    devices: int,
    rates_rps: Sequence[float],
    step_s: float,
    *,
    input_tokens: int,
    output_tokens: int,
    cache_hit_ratio: float = 0.0,
    resolution_s: float = 1.0,
) -> list[Moment]:
    """The pool at the end of every step of `step_s` seconds with arrivals at rates_rps[i] during step i; empty at the start.

    `resolution_s` is the longest time between two evaluations. Raises ValueError for a rate below 0 or a step of nothing.
    """
    from scipy.linalg.lapack import dgtsv

    if step_s <= 0 or resolution_s <= 0 or any(not rate >= 0 for rate in rates_rps):
        raise ValueError("a burst needs rates from 0 up and a step above 0")
    slots = devices * profile.max_batch
    taken = np.arange(1, slots + 1, dtype=np.float64)
    batch = np.maximum(1.0, taken / devices)
    held_s = service_ns(profile, batch, input_tokens, output_tokens, cache_hit_ratio) / SECOND
    if not (held_s > 0).all():
        raise ValueError("a request that takes no time has no queue")
    served = taken / held_s
    # The queue cannot outgrow what arrives above the greatest rate, and 12 standard deviations of all arrivals.
    surplus = sum(max(0.0, rate - served[-1]) * step_s for rate in rates_rps)
    spread = 12 * (sum(rates_rps) * step_s) ** 0.5
    room = int(min(MOST_WAITING, max(200.0, surplus + spread)))
    states = slots + room + 1
    mu = np.concatenate(([0.0], served, np.full(room, served[-1])))
    count = np.arange(states, dtype=np.float64)
    queued = np.maximum(0.0, count - slots)
    p = np.zeros(states)
    p[0] = 1.0
    substeps = max(1, int(np.ceil(step_s / resolution_s)))
    dt = step_s / substeps
    stage = _GAMMA * dt
    found = []
    for number, rate in enumerate(rates_rps, start=1):
        birth = np.full(states, float(rate))
        birth[-1] = 0.0  # an arrival at the last state is turned away
        down, diagonal, up = -stage * birth[:-1], 1 + stage * (birth + mu), -stage * mu[1:]
        carried = max(rate, served[-1]) * dt
        reach = int(carried + 8 * carried**0.5) + 10
        for _ in range(substeps):
            # Only where there is any probability, and as far as a step can carry it. Nothing leaves at the edges, so that none is lost.
            held = np.flatnonzero(np.abs(p) > 1e-15)
            low, high = max(0, int(held[0]) - reach), min(states, int(held[-1]) + reach + 1)
            some, middle = p[low:high].copy(), diagonal[low:high].copy()
            middle[0] -= stage * mu[low]
            middle[-1] -= stage * birth[high - 1]
            first = dgtsv(down[low : high - 1], middle, up[low : high - 1], some)[3]
            p[low:high] = dgtsv(down[low : high - 1], middle, up[low : high - 1], some + (1 / _GAMMA - 1) * (first - some))[3]
            if np.abs(p[low:high] - some).sum() < _AT_REST:
                break
        waiting = float((p * queued).sum())  # no dot product: one wakes the threads of BLAS every time
        full = float(p[slots:].sum())
        # An arrival that finds every slot taken waits for those queued and for the next slot, at the greatest rate.
        wait_s = (waiting + full) / float(served[-1])
        found.append(
            Moment(
                at_s=number * step_s,
                rps=float(rate),
                waiting=waiting,
                in_service=float((p * np.minimum(count, slots)).sum()),
                wait_ns=wait_s * SECOND,
                overflow=float(p[-1]),
            )
        )
    return found
