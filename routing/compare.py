"""A scenario beside its baseline: who moved, who is worse off, what it costs, and what has become a single point.

A comparison always carries its baseline. Regret is per place and by the drawn latencies, not by the score that chose the
routes: a what-if that is judged by its own score proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from records.units import ms
from routing.fleet import Fleet
from routing.outcome import Outcome, PlaceOutcome
from routing.reach import Reach

__all__ = ["Change", "SinglePoint", "compare_outcomes", "lost_without", "outcome_json", "single_points", "to_json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SinglePoint:
    """A site or provider whose loss alone loses demand: no way, or no room, is left for this share of it."""

    name: str
    kind: str
    lost_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """After less before; None where one of the two has none.

    moved_share    share of demand that another pool serves, or none any more
    rehomed_share  share of demand that enters at another PoP
    """

    before: Outcome
    after: Outcome
    ttft_p95_ns: float | None
    e2e_p95_ns: float | None
    usd_per_month: float | None
    usd_known: float
    moved_share: float
    rehomed_share: float
    miss_share: float
    lost_share: float
    new_single_points: tuple[SinglePoint, ...]


def compare_outcomes(before: Outcome, after: Outcome, *, points: tuple[Sequence[SinglePoint], Sequence[SinglePoint]] = ((), ())) -> Change:
    """The change from one outcome to another; `points` are the single points before and after."""
    was = {place.site: place for place in before.places}
    moved = rehomed = 0.0
    for place in after.places:
        old = was.get(place.site)
        if old is None:
            continue
        now = dict(place.served)
        moved += place.rps * sum(max(0.0, share - now.get(pool, 0.0)) for pool, share in old.served)
        rehomed += place.rps * (place.ingress[:1] != old.ingress[:1])
    known = {point.name for point in points[0]}
    return Change(
        before=before,
        after=after,
        ttft_p95_ns=_less(after.ttft_p95_ns, before.ttft_p95_ns),
        e2e_p95_ns=_less(after.e2e_p95_ns, before.e2e_p95_ns),
        usd_per_month=_less(after.usd_per_month, before.usd_per_month),
        usd_known=after.usd_known - before.usd_known,
        moved_share=_rounded(moved / after.rps),
        rehomed_share=_rounded(rehomed / after.rps),
        miss_share=after.miss_share - before.miss_share,
        lost_share=after.lost_share - before.lost_share,
        new_single_points=tuple(point for point in points[1] if point.name not in known),
    )


def _less(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _rounded(share: float) -> float:
    return 0.0 if share < 1e-6 else min(1.0, share)


# ---- single points


def lost_without(fleet: Fleet, sites: frozenset[str], reach: Reach | None = None) -> float:
    """Requests a second that could not be served without these sites, however the rest were split.

    Places that may use the same pools are one class; by max-flow min-cut what is lost is the greatest excess, over all
    unions of classes, of their demand over the room of the pools they may use.
    """
    reach = reach or fleet.reach.without(sites)
    cap = np.array(
        [
            0.0 if pool.site in sites or reach.gone[reach.index[pool.site]] else c.cap_rps
            for pool, c in zip(fleet.pools, fleet.curves, strict=True)
        ]
    )
    standing = np.array([pool in fleet.world.pools for pool in fleet.pools], dtype=bool)
    may = np.isfinite(reach.total_ms[:, fleet.column]) & (standing & (cap > 0))[None, :]
    rates = np.array([fleet.world.demand[name] for name in reach.places])
    classes: dict[bytes, tuple[np.ndarray, float]] = {}
    for row, rate in zip(may, rates, strict=True):
        mask, total = classes.get(row.tobytes(), (row, 0.0))
        classes[row.tobytes()] = (mask, total + float(rate))
    worst = 0.0
    sets = list(classes.values())
    # More than a dozen classes: unions of up to three, which may miss an excess that only a larger union shows.
    largest = len(sets) if len(sets) <= 12 else 3
    for size in range(1, largest + 1):
        for chosen in combinations(sets, size):
            room = float(cap[np.logical_or.reduce([mask for mask, _ in chosen])].sum())
            worst = max(worst, sum(total for _, total in chosen) - room)
    return worst


def single_points(fleet: Fleet) -> tuple[SinglePoint, ...]:
    """Every standing site and provider whose loss alone loses more than is lost already, the worst first.

    Only what carries traffic, or pools, can be one.
    """
    now = lost_without(fleet, frozenset(), fleet.reach)
    total = sum(fleet.world.demand.values())
    used = {pool.site for pool in fleet.world.pools} | {name for name in fleet.reach.places if name in fleet.reach.index}
    if not fleet.reach.robust():
        for m, p in fleet.serves():
            hop = fleet.reach.hop(m, int(fleet.column[p]))
            used |= {hop.ingress, *((hop.relay,) if hop.relay else ())}
    cases = [(name, "site", frozenset({name})) for name in sorted(used) if name in fleet.world.sites and name in fleet.reach.index]
    sites = fleet.world.sites.values()
    for provider in sorted({site.provider for site in sites if site.provider is not None}):
        members = frozenset(site.id for site in sites if site.provider == provider)
        if members & used:
            cases.append((provider, "provider", members))
    found = []
    for name, kind, members in cases:
        share = (lost_without(fleet, members) - now) / total
        if share > 1e-6:
            found.append(SinglePoint(name=name, kind=kind, lost_share=share))
    return tuple(sorted(found, key=lambda point: (-point.lost_share, point.name)))


# ---- JSON


def to_json(change: Change, *, scenario_hash: str, **more: Any) -> dict[str, Any]:
    """A comparison as `isochrone whatif --json` writes it; times in ms, money in USD a month; null is unknown."""
    return {
        **more,
        "baseline": outcome_json(change.before),
        "proposed": outcome_json(change.after),
        "deltas": {
            "ttft_p95_ms": ms(change.ttft_p95_ns),
            "e2e_p95_ms": ms(change.e2e_p95_ns),
            "usd_per_month": change.usd_per_month,
            "moved_share": change.moved_share,
            "slo_miss_share": change.miss_share,
            "lost_share": change.lost_share,
            "rehomed_share": change.rehomed_share,
            "usd_known_per_month": change.usd_known,
        },
        "per_metro": _places(change),
        "new_single_points": [
            {"name": point.name, "kind": point.kind, "lost_share": point.lost_share} for point in change.new_single_points
        ],
        "scenario_hash": scenario_hash,
    }


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """One side of a comparison."""
    return {
        "rps": outcome.rps,
        "ttft_ms": {"p50": ms(outcome.ttft_p50_ns), "p95": ms(outcome.ttft_p95_ns)},
        "e2e_ms": {"p50": ms(outcome.e2e_p50_ns), "p95": ms(outcome.e2e_p95_ns)},
        "lost_share": outcome.lost_share,
        "slo_miss_share": outcome.miss_share,
        "usd_per_month": outcome.usd_per_month,
        "usd_known_per_month": outcome.usd_known,
        "usd": {"devices": outcome.usd_devices, "egress": outcome.usd_egress, "push": outcome.usd_push},
        "unpriced": list(outcome.unpriced),
        "measured_share": outcome.measured_share,
        "evidence": "measured" if outcome.measured_share >= 1 - 1e-9 else "modelled" if outcome.measured_share == 0 else "mixed",
        "prices": {"providers": dict(outcome.provider_price), "budget": outcome.budget_price},
        "pools": [
            {
                "id": pool.id,
                "site": pool.site,
                "state": pool.state,
                "load_rps": pool.load_rps,
                "cap_rps": pool.cap_rps,
                "utilisation": pool.utilisation,
                "wait_ms": pool.wait_ms,
                "capacity_price": pool.capacity_price,
                "relieves_loss": pool.relieves_loss,
            }
            for pool in outcome.pools
        ],
    }


def _places(change: Change) -> list[dict[str, Any]]:
    """Every place before and after, the most regret in TTFT at p95 first, what lost its service before all."""
    was = {place.site: place for place in change.before.places}
    now = {place.site: place for place in change.after.places}
    rows = [_row(name, was.get(name), now.get(name)) for name in sorted({*was, *now})]

    def order(row: Mapping[str, Any]) -> tuple[float, float, str]:
        return (-row["lost_share"], -(row["regret_ms"] if row["regret_ms"] is not None else 0.0), row["site"])

    return sorted(rows, key=order)


def _row(name: str, old: PlaceOutcome | None, new: PlaceOutcome | None) -> dict[str, Any]:
    shares = dict(new.served) if new is not None else {}
    moved = 0.0 if old is None or new is None else sum(max(0.0, share - shares.get(pool, 0.0)) for pool, share in old.served)
    return {
        "site": name,
        "rps": 0.0 if new is None else new.rps,
        "regret_ms": ms(_less(None if new is None else new.ttft_p95_ns, None if old is None else old.ttft_p95_ns)),
        "ttft_p95_ms": {"before": None if old is None else ms(old.ttft_p95_ns), "after": None if new is None else ms(new.ttft_p95_ns)},
        "e2e_p95_ms": {"before": None if old is None else ms(old.e2e_p95_ns), "after": None if new is None else ms(new.e2e_p95_ns)},
        "slo_miss_share": {"before": None if old is None else old.miss_share, "after": None if new is None else new.miss_share},
        "lost_share": 0.0 if new is None else new.lost_share,
        "moved_share": _rounded(moved),
        "served": {"before": _served(old), "after": _served(new)},
        "ingress": {"before": list(old.ingress) if old else [], "after": list(new.ingress) if new else []},
        "measured_share": None if new is None else new.measured,
    }


def _served(place: PlaceOutcome | None) -> list[dict[str, Any]]:
    return [] if place is None else [{"pool": pool, "share": share} for pool, share in place.served]
