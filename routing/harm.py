"""Which loss hurts most: every single failure, pairs of them, and shared-risk groups, each with the load settled again.

Only what a failure touches is worked out anew: ways that did not use the lost sites stay, the split starts from the
baseline's columns and tangents, and a loss that no request in use notices is the baseline itself. The answers are those
of settling each world from nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from records.units import ms
from routing.constraints import MemoryOf
from routing.fleet import Fleet, settle
from routing.outcome import FULL, Cache, Totals, totals
from routing.sweep import chunked
from routing.world import World

__all__ = ["Harm", "Loss", "groups_of", "pairs_of", "rank", "single_losses", "to_json"]

#: Draws for each way in a sweep; totals over hundreds of ways need fewer than one way by itself.
SWEEP_DRAWS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What fails together, under a name. kind: site, provider, pair or group."""

    name: str
    kind: str
    sites: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """What a loss does, after less before; ranked by what is lost, then by what misses its objective, then by the time.

    touched  whether any traffic noticed; full: the pools that were not full before
    """

    loss: Loss
    touched: bool
    lost_share: float
    miss_share: float
    ttft_p95_ns: float | None
    e2e_p95_ns: float | None
    moved_share: float
    full: tuple[str, ...]

    @property
    def order(self) -> tuple[Any, ...]:
        """The worst first; equals by name."""
        return (-self.lost_share, -self.miss_share, -(self.ttft_p95_ns or 0.0), -self.moved_share, self.loss.name)


def single_losses(world: World) -> list[Loss]:
    """Every standing PoP, region and provider, each alone."""
    sites = [site for site in world.sites.values() if site.kind != "metro"]
    found = [Loss(name=site.id, kind="site", sites=frozenset({site.id})) for site in sites]
    providers: dict[str, set[str]] = defaultdict(set)
    for site in sites:
        if site.provider is not None:
            providers[site.provider].add(site.id)
    found += [Loss(name=name, kind="provider", sites=frozenset(members)) for name, members in sorted(providers.items())]
    return found


def groups_of(world: World) -> list[Loss]:
    """Shared risks: the world's own groups, and every city with more than one site in it (metro/NAME)."""
    cities: dict[str, set[str]] = defaultdict(set)
    for site in world.sites.values():
        if site.kind != "metro" and site.metro:
            cities[site.metro].add(site.id)
    found = [
        Loss(name=name, kind="group", sites=group.sites & world.sites.keys()) for name, group in sorted(world.groups.items()) if group.sites
    ]
    found += [
        Loss(name=f"metro/{city}", kind="group", sites=frozenset(members)) for city, members in sorted(cities.items()) if len(members) > 1
    ]
    return found


def pairs_of(losses: Iterable[Loss]) -> list[Loss]:
    """Every two of some losses together."""
    return [
        Loss(name=f"{a.name} + {b.name}", kind="pair", sites=a.sites | b.sites) for a, b in combinations(losses, 2) if a.sites != b.sites
    ]


def rank(
    fleet: Fleet,
    losses: Sequence[Loss],
    *,
    seed: int = 0,
    memory: MemoryOf | None = None,
    executor: Executor | None = None,
    workers: int = 2,
    **scale_out: Any,
) -> list[Harm]:
    """The harm of every loss to a settled fleet, the worst first; the same whatever the executor.

    scale_out  renew, lost, attempts, share, progress of `routing.sweep.chunked`
    """
    cache = Cache(seed, SWEEP_DRAWS)
    before = totals(fleet, cache)
    work = partial(_harm, fleet, before, cache, memory)
    if executor is not None:
        # The whole fleet goes with every chunk, unless it is shared; then small ones, since one loss may take as long as a hundred.
        parts = max(1, workers) * (1 if scale_out.get("share") is None else 16)
        size = max(1, -(-len(losses) // parts))
        losses = _dealt(fleet, losses, -(-len(losses) // size))
        scale_out["chunk"] = size
    found = chunked(work, losses, executor=executor, workers=workers, **scale_out)
    return sorted(found, key=lambda harm: harm.order)


def _dealt(fleet: Fleet, losses: Sequence[Loss], parts: int) -> list[Loss]:
    """The losses dealt out like cards, those that serve most first: a chunk of all providers would keep everybody waiting."""
    served: dict[str, float] = defaultdict(float)
    for pool, load in zip(fleet.pools, fleet.split.load.tolist(), strict=True):
        served[pool.site] += load
    heavy = sorted(losses, key=lambda loss: -sum(served.get(name, 0.0) for name in loss.sites))
    return [loss for part in range(parts) for loss in heavy[part::parts]]


def _harm(fleet: Fleet, before: Totals, cache: Cache, memory: MemoryOf | None, loss: Loss) -> Harm:
    reach = fleet.reach.without(loss.sites)
    if not _touches(fleet, reach, loss):
        return Harm(loss=loss, touched=False, lost_share=0.0, miss_share=0.0, ttft_p95_ns=0.0, e2e_p95_ns=0.0, moved_share=0.0, full=())
    after = settle(fleet.world, fleet.options, egress=fleet.egress, memory=memory, before=fleet, reach=reach, hints=fleet.split.hints)
    outcome = totals(after, cache)
    rates = np.array([fleet.world.demand[name] for name in reach.places])
    moved = np.maximum(fleet.split.rate - after.split.rate, 0.0).sum() / rates.sum()
    was_full, is_full = (is_full_at(state) for state in (fleet, after))
    return Harm(
        loss=loss,
        touched=True,
        lost_share=_positive(outcome.lost_share - before.lost_share),
        miss_share=_unless_noise(outcome.miss_share - before.miss_share),
        ttft_p95_ns=_less(outcome.ttft_p95_ns, before.ttft_p95_ns),
        e2e_p95_ns=_less(outcome.e2e_p95_ns, before.e2e_p95_ns),
        moved_share=float(moved) if moved > 1e-6 else 0.0,
        full=tuple(name for name in is_full if name not in was_full),
    )


def is_full_at(fleet: Fleet) -> tuple[str, ...]:
    """The pools that are given all they may take."""
    return tuple(
        pool.id for pool, curve, load in zip(fleet.pools, fleet.curves, fleet.split.load, strict=True) if load >= FULL * curve.cap_rps
    )


def _touches(fleet: Fleet, reach: Any, loss: Loss) -> bool:
    """Whether any request in use took a way that is gone or longer, or was served there."""
    m, p = fleet.pairs()
    s = fleet.column[p]
    gone = np.array([pool.site in loss.sites for pool in fleet.pools], dtype=bool)
    if gone[p].any() or (reach.total_ms[m, s] != fleet.reach.total_ms[m, s]).any():
        return True
    if any((new != old).any() for new, old in zip(reach.hops(m, s), fleet.reach.hops(m, s), strict=True)):
        return True
    return not loss.sites.isdisjoint(reach.places)


def _less(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _unless_noise(value: float) -> float:
    """Sums of hundreds of shares differ in their last digits; a loss that does nothing must not rank before one that does."""
    return value if abs(value) > 1e-9 else 0.0


def _positive(value: float) -> float:
    return value if value > 1e-6 else 0.0


def to_json(found: Sequence[Harm]) -> list[dict[str, Any]]:
    """The ranking as `isochrone whatif --all-single-failures --json` lists it."""
    return [
        {
            "rank": number,
            "name": harm.loss.name,
            "kind": harm.loss.kind,
            "sites": sorted(harm.loss.sites) if harm.loss.kind != "site" else [harm.loss.name],
            "touched": harm.touched,
            "lost_share": harm.lost_share,
            "slo_miss_share": harm.miss_share,
            "ttft_p95_ms": ms(harm.ttft_p95_ns),
            "e2e_p95_ms": ms(harm.e2e_p95_ns),
            "moved_share": harm.moved_share,
            "full": list(harm.full),
        }
        for number, harm in enumerate(found, start=1)
    ]
