"""The queue in front of a pool: a birth-death chain whose service rate depends on how many are being served.

An inference server is no M/M/c with c = number of devices: one device decodes a batch together, and a fuller batch
serves more requests a second, each more slowly. The rate with n requests in service on one device is, as in the models of
llm-inferno and the workload-variant autoscaler (IBM):

    mu(n) = n / (gamma + delta x n_in x (1 - h) x n + (n_out - 1) x (alpha + beta x n))

Slots are batch slots. Arrivals are Poisson; requests are spread evenly over the devices of a pool, so that the pool
serves D x mu(n / D) with n of its D x max_batch slots taken. Beyond the last slot the rate stays and the chain is
a geometric series, summed in closed form: no cut-off. With one slot this is M/M/1, with beta = delta = 0 it is
Erlang's M/M/c; the tests hold it to both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from records.serving import PerfProfile
from records.units import SECOND

__all__ = ["Queue", "capacity_rps", "service_ns", "solve"]

T = TypeVar("T", float, NDArray[np.float64])


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """The steady state of a pool at a load.

    utilisation      arrival rate over the greatest service rate; at 1 and above there is no steady state
    wait_probability chance that an arrival finds every slot taken
    wait_mean_ns     mean wait of all arrivals; inf when overloaded
    wait_tail_ns     mean wait of those who wait, exponentially distributed (a sum of a geometric number of services)
    batch            requests decoded together on the device of an arrival, itself included; >= 1
    """

    utilisation: float
    wait_probability: float
    wait_mean_ns: float
    wait_tail_ns: float
    batch: float

    @property
    def overloaded(self) -> bool:
        """More arrives than can ever be served."""
        return self.utilisation >= 1

    def wait_draws_ns(self, uniforms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Waits in ns at uniform draws in (0, 1): the inverse of 1 - P(wait) exp(-t / tail)."""
        if self.wait_probability < 1e-12:  # no draw of a double is as rare
            return np.zeros_like(uniforms)
        waiting = uniforms > 1 - self.wait_probability
        wait = -np.log((1 - np.where(waiting, uniforms, 0.5)) / self.wait_probability) * self.wait_tail_ns
        return np.where(waiting, wait, 0.0)


def service_ns(profile: PerfProfile, batch: T, input_tokens: int, output_tokens: int, cache_hit_ratio: float = 0.0) -> T:
    """How long one request holds its slot at a batch, or at each of an array: gamma + delta n_in (1 - h) batch + (n_out - 1)(alpha +
    beta batch)."""
    prefill = profile.gamma_ns + profile.delta_ns * input_tokens * (1 - cache_hit_ratio) * batch
    return prefill + max(0, output_tokens - 1) * (profile.alpha_ns + profile.beta_ns * batch)


def capacity_rps(profile: PerfProfile, devices: int, input_tokens: int, output_tokens: int, cache_hit_ratio: float = 0.0) -> float:
    """The most requests a second that a pool serves, every slot taken."""
    held_ns = service_ns(profile, profile.max_batch, input_tokens, output_tokens, cache_hit_ratio)
    return math.inf if held_ns == 0 else devices * profile.max_batch * SECOND / held_ns


def solve(
    profile: PerfProfile, devices: int, arrival_rps: float, *, input_tokens: int, output_tokens: int, cache_hit_ratio: float = 0.0
) -> Queue:
    """The queue of a pool of equal devices under Poisson arrivals of equal requests (arrival_rps per second for the pool).

    No load: no wait, batch 1. Raises ValueError for a negative rate or a pool without devices or slots.
    """
    if arrival_rps < 0 or devices < 1 or profile.max_batch < 1:
        raise ValueError(f"a queue needs a rate >= 0, a device and a slot; got {arrival_rps}, {devices}, {profile.max_batch}")
    if arrival_rps == 0:
        return Queue(utilisation=0.0, wait_probability=0.0, wait_mean_ns=0.0, wait_tail_ns=0.0, batch=1.0)
    slots = devices * profile.max_batch
    taken = np.arange(1, slots + 1, dtype=np.float64)
    batch = np.maximum(1.0, taken / devices)
    held_s = service_ns(profile, batch, input_tokens, output_tokens, cache_hit_ratio) / SECOND
    if not held_s.all():
        return Queue(utilisation=0.0, wait_probability=0.0, wait_mean_ns=0.0, wait_tail_ns=0.0, batch=1.0)
    rate = taken / held_s
    utilisation = arrival_rps / float(rate[-1])
    if utilisation >= 1:
        return Queue(
            utilisation=utilisation, wait_probability=1.0, wait_mean_ns=math.inf, wait_tail_ns=math.inf, batch=float(profile.max_batch)
        )
    # Weights of the states 0..slots in logarithms: the product over thousands of slots leaves the range of a float.
    log_weight = np.concatenate(([0.0], np.cumsum(np.log(arrival_rps) - np.log(rate))))
    weight = np.exp(log_weight - log_weight.max())
    full = weight[-1] / (1 - utilisation)  # every slot taken, with 0, 1, 2, ... waiting
    total = weight[:-1].sum() + full
    wait_probability = float(full / total)
    tail_s = 1 / (float(rate[-1]) - arrival_rps)
    seen = np.concatenate((batch, [batch[-1]]))  # an arrival makes n + 1, at most every slot
    share = np.concatenate((weight[:-1], [full])) / total
    return Queue(
        utilisation=utilisation,
        wait_probability=wait_probability,
        wait_mean_ns=wait_probability * tail_s * SECOND,
        wait_tail_ns=tail_s * SECOND,
        batch=min(max(1.0, float(share @ seen)), float(profile.max_batch)),
    )
