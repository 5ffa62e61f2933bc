"""Many scenarios over an executor: the same answers bit for bit with one process, several, or several machines.

The seam is `concurrent.futures.Executor`: none runs here, a process pool or Dask's `Client.get_executor()` runs elsewhere;
who makes and ends them is the caller's business. Scenarios go in chunks, since a task costs about a millisecond to
hand over: make a chunk worth 100 ms or more. Results are put together in the order of the scenarios, whoever finished
first. A chunk whose worker was lost is done again on a new executor, a bounded number of times; chunks that were done stay.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from records.errors import OutsideError
from routing.engine import Floats
from routing.failures import SingleFailures, single_failures
from routing.kernel import Form, uses_numba

__all__ = ["FailureEffect", "WorkersLost", "chunked", "failure_effects"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkersLost(OutsideError):
    """Workers were lost as often as the sweep may begin again."""


def chunked(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    executor: Executor | None = None,
    chunk: int | None = None,
    workers: int = 2,
    renew: Callable[[], Executor] | None = None,
    lost: tuple[type[BaseException], ...] = (BrokenExecutor,),
    attempts: int = 3,
    share: Callable[[Any], Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Result]:
    """function(item) of every item, in the order of the items.

    function  importable by name in another process, as is everything bound to it (functools.partial); pure
    executor  None runs it here
    chunk     items a task; None: four tasks a worker. Choose it so that a task takes 100 ms or more. The last tasks are smaller, so
              that the workers end together
    renew     makes a new executor once workers were lost; None: a loss ends the sweep
    lost      what a future raises when its worker died, as against an error of `function`, which is raised at once
    attempts  how often the sweep may begin on a new executor
    share     hands `function`, with all that is bound to it, to the workers once and gives what stands for it in a task; None:
              it goes with every task
    progress  called with how many more items are done, as they are

    Raises WorkersLost when that is not enough.
    """
    todo = list(items)
    done_with = progress or (lambda _count: None)
    if executor is None:
        found = []
        for item in todo:
            found.append(function(item))
            done_with(1)
        return found
    size = chunk or max(1, math.ceil(len(todo) / (4 * max(1, workers))))
    chunks = _chunks(todo, size, workers)
    done: dict[int, list[Result]] = {}
    for attempt in range(attempts + 1):
        left = [at for at in range(len(chunks)) if at not in done]
        pending: dict[int, Future[list[Result]]] = {}
        loss: BaseException | None = None
        try:
            given = function if share is None else share(function)
            for at in left:
                pending[at] = executor.submit(_run, given, chunks[at])
        except lost as error:
            loss = error
        for at, future in pending.items():
            try:
                done[at] = future.result()
                done_with(len(chunks[at]))
            except lost as error:
                loss = error
        if loss is None:
            return [result for at in range(len(chunks)) for result in done[at]]
        if renew is None or attempt == attempts:
            raise WorkersLost(
                f"workers were lost {attempt + 1} times with {len(done)} of {len(chunks)} chunks done ({type(loss).__name__}: {loss}); "
                "run it with fewer workers, or with more memory"
            ) from loss
        executor = renew()
    raise AssertionError("not reached")


def _chunks(todo: Sequence[Item], size: int, workers: int) -> list[Sequence[Item]]:
    """Tasks of `size`, and for the last two of each worker quarters of one: nobody waits long for the last to end."""
    whole = max(0, len(todo) // size - 2 * max(1, workers)) * size
    cuts = [*range(0, whole, size), *range(whole, len(todo), max(1, size // 4))]
    return [todo[start:end] for start, end in pairwise([*cuts, len(todo)])]


def _run(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]


@dataclass(frozen=True, slots=True)
class FailureEffect:
    """What the loss of some sites together does to the pairs of the others.

    gone          indices of the sites lost
    lost_pairs    ordered pairs that were joined and are not any more
    slower_pairs  ordered pairs that take longer
    added_ms      the sum of what the slower pairs take longer, each by its weight
    worst_ms      the most that one pair takes longer; 0 when none does
    """

    gone: tuple[int, ...]
    lost_pairs: int
    slower_pairs: int
    added_ms: float
    worst_ms: float


def failure_effects(
    direct_ms: Floats,
    failures: Iterable[Sequence[int]],
    *,
    relays: int = 1,
    relay_ms: float = 0.5,
    allowed: Sequence[int] | None = None,
    weights: Floats | None = None,
    **scale_out: Any,
) -> list[FailureEffect]:
    """The effect of every failure, each a set of sites lost together, in the order given.

    weights    [N, N] what a ms on a pair is worth; None: all alike
    scale_out  executor, chunk, workers, renew, lost, attempts, share, progress of `chunked`

    Parameters and errors else as `routing.engine.best`; IndexError for an index that is no site.
    """
    direct = np.ascontiguousarray(direct_ms, dtype=np.float64)
    allowed = None if allowed is None else tuple(int(site) for site in allowed)
    sets = [tuple(int(site) for site in gone) for gone in failures]
    # The tables, and about two pairs a site crossing what is lost, each over every relay.
    sums = len(direct) ** 3 + 2 * len(sets) * len(direct) ** 2
    options = (relays, relay_ms, allowed, uses_numba("auto", sums))
    return chunked(partial(_effect, direct, _digest(direct), options, weights), sets, **scale_out)


def _effect(direct: Floats, digest: str, options: _Options, weights: Floats | None, gone: tuple[int, ...]) -> FailureEffect:
    found = _tables(direct, digest, options)
    change = found.change(*gone)
    cut = np.isinf(change.after_ms)
    added = np.where(cut, 0.0, change.after_ms - np.where(cut, 0.0, change.before_ms))
    weighted = added if weights is None else added * weights[change.src, change.dst]
    return FailureEffect(change.gone, int(cut.sum()), int((added > 0).sum()), float(weighted.sum()), float(added.max(initial=0.0)))


#: Relays, what one adds, who may be one, and whether the compiled loops pay for being loaded.
_Options = tuple[int, float, Any, bool]

#: The tables of the network a worker was given last: made once for each worker, not sent with every chunk.
_LAST: dict[tuple[Any, ...], SingleFailures] = {}


def _tables(direct: Floats, digest: str, options: _Options) -> SingleFailures:
    key = (digest, options)
    found = _LAST.get(key)
    if found is None:
        relays, relay_ms, allowed, compiled = options
        form: Form = "numba" if compiled and importlib.util.find_spec("numba") is not None else "auto"  # a worker may be without it
        found = single_failures(direct, relays=relays, relay_ms=relay_ms, allowed=allowed, form=form)
        _LAST.clear()
        _LAST[key] = found
    return found


def _digest(direct: Floats) -> str:
    return blake2b(direct.tobytes(), digest_size=16).hexdigest() + str(direct.shape)
