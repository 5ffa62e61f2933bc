"""Quantiles of mixtures: sets of equally likely draws, each with a weight, such as the requests a second that took them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["bucketed", "quantiles"]

Floats = NDArray[np.float64]

#: Mixtures of fewer draws are sorted as they are.
_SORTED_WHOLE = 8192


def bucketed(values_ns: Floats, rate: Floats, q: float) -> float:
    """The q-quantile of a mixture [flows, draws] by log buckets of 0.2 %: within 0.1 %."""
    step = 0.002
    bucket = np.maximum(0, np.log(np.maximum(values_ns, 1.0)) / step).astype(np.intp)
    mass = np.bincount(bucket.ravel(), weights=np.repeat(rate, values_ns.shape[1]))
    reached = np.cumsum(mass)
    return float(np.exp((np.searchsorted(reached, q * reached[-1] * (1 - 1e-12)) + 0.5) * step))


def quantiles(weighted: Sequence[tuple[float, Floats]]) -> tuple[float | None, float | None]:
    """(p50, p95) of a mixture of equally likely draws, each set by its weight; None of nothing."""
    if not weighted:
        return None, None
    values = np.concatenate([draws for _, draws in weighted])
    weights = np.repeat([weight / len(draws) for weight, draws in weighted], [len(draws) for _, draws in weighted])
    if len(values) < _SORTED_WHOLE:
        return _quantile(values, weights, 0.5, 0.0, float(weights.sum())), _quantile(values, weights, 0.95, 0.0, float(weights.sum()))
    # By buckets of 1 %: only what shares one with a quantile needs an order.
    bucket = np.maximum(0.0, np.log(np.maximum(values, 1.0)) * 100).astype(np.int32)
    reached = np.cumsum(np.bincount(bucket, weights=weights))
    found = []
    for q in (0.5, 0.95):
        at = int(np.searchsorted(reached, q * reached[-1] * (1 - 1e-12)))
        mine = bucket == at
        found.append(_quantile(values[mine], weights[mine], q, float(reached[at - 1]) if at else 0.0, float(reached[-1])))
    return found[0], found[1]


def _quantile(values: Floats, weights: Floats, q: float, below: float, total: float) -> float:
    """The q-quantile of weighted values that lies among these; `below`: the weight of those that are less, `total`: of all."""
    order = np.argsort(values)
    reached = below + np.cumsum(weights[order])
    return float(values[order[min(len(order) - 1, int(np.searchsorted(reached, q * total * (1 - 1e-12))))]])
