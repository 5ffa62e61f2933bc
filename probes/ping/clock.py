"""The two clocks of this machine, read together."""

from __future__ import annotations

import time

from probes.ping.timing import Reading

__all__ = ["clocks"]

#: How often the clocks are read before a pair torn apart by the scheduler is accepted.
_TRIES = 4
_APART_NS = 1_000


def clocks() -> Reading:
    """Monotonic and wall clock, read as close to each other as a few tries give."""
    best: Reading | None = None
    for _ in range(_TRIES):
        mono_ns = time.monotonic_ns()
        real_ns = time.time_ns()
        apart_ns = time.monotonic_ns() - mono_ns
        if apart_ns < _APART_NS:
            return Reading(mono_ns, real_ns, apart_ns)
        if best is None or apart_ns < best.apart_ns:
            best = Reading(mono_ns, real_ns, apart_ns)
    assert best is not None
    return best
