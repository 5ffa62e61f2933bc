"""A backup that does not fail with the route it backs up: other sites, other providers, other risk groups.

Sites that fail together share a risk group: a metro's power, a provider, a cable. Groups are data (site -> names); those
of one metro are the default. The two ends are common to both routes by nature, and so are the groups they are in: a risk
that takes an end away cannot be backed up by any route.

Two answers, and they differ:

backup  the best route that is disjoint from a primary that is given: what to keep ready when the best route is used
pair    the two disjoint routes whose costs add up to the least: what to use when both carry traffic. Its first route may
        be worse than the best one, which can stand in the way of every backup
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from records.place import Site
from records.units import MS
from routing.alternatives import Alternative, k_best
from routing.engine import may_relay, prepared

__all__ = ["Pair", "backup", "default_groups", "pair", "shared_groups", "shared_names"]

Floats = NDArray[Any]
Groups = Sequence[Collection[str]]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two disjoint routes, the cheaper one first, and the sum of their costs in ms."""

    first: Alternative
    second: Alternative

    @property
    def cost_ms(self) -> float:
        """Both together."""
        return self.first.cost_ms + self.second.cost_ms


def default_groups(
    sites: Iterable[Site], more: Mapping[str, Collection[str]] | None = None, *, providers: bool = False
) -> dict[str, frozenset[str]]:
    """Site id -> risk groups: its metro (country and name, or id's place), on request its provider, and those of `more`.

    >>> default_groups([Site(id="sin", kind="pop", name="Singapore", lat=1.3, lon=103.9, country="SG", metro="Singapore")])
    {'sin': frozenset({'metro:SG/Singapore'})}
    """
    found = {}
    for site in sites:
        names = set((more or {}).get(site.id, ()))
        if site.metro is not None:
            names.add(f"metro:{site.country or '?'}/{site.metro}")
        if providers and site.provider is not None:
            names.add(f"provider:{site.provider}")
        found[site.id] = frozenset(names)
    return found


def shared_groups(groups: Groups, ends: Collection[int], first: Sequence[int], second: Sequence[int]) -> frozenset[str]:
    """The risks two sequences of relays have in common, beside those of the ends."""
    return shared_names(*([groups[site] for site in sites] for sites in (ends, first, second)))


def shared_names(ends: Iterable[Collection[str]], first: Iterable[Collection[str]], second: Iterable[Collection[str]]) -> frozenset[str]:
    """The same of the risk groups that the sites of each are in."""
    apart, *risks = (frozenset(itertools.chain.from_iterable(groups)) for groups in (ends, first, second))
    return (risks[0] & risks[1]) - apart


def backup(
    direct_ms: Floats,
    source: int,
    destination: int,
    primary: Sequence[int],
    *,
    groups: Groups | None = None,
    relays: int = 1,
    relay_ms: float = 0.5,
    allowed: Sequence[int] | None = None,
) -> Alternative | None:
    """The cheapest route over at most `relays` relays that shares no relay, no link and no risk group with a primary; None for none.

    primary  the relays of the route that is backed up, () for the direct link
    groups   of every site, by index; None: sites only
    """
    count = len(direct_ms)
    names = groups if groups is not None else [()] * count
    between = may_relay(count, allowed)
    free = [
        int(site)
        for site in between
        if site not in primary
        and site not in (source, destination)
        and not shared_groups(names, (source, destination), primary, (int(site),))
    ]
    table = np.array(direct_ms, dtype=np.float64)
    if not primary:
        table[source, destination] = np.inf  # the direct link is the primary
    found = k_best(table, source, destination, 1, relays=relays, relay_ms=relay_ms, allowed=free)
    return found[0] if found else None


def pair(
    direct_ms: Floats,
    source: int,
    destination: int,
    *,
    groups: Groups | None = None,
    relay_ms: float = 0.5,
    allowed: Sequence[int] | None = None,
) -> Pair | None:
    """The two routes over at most one relay each, disjoint in site and risk group, whose costs add up to the least; None for none.

    All pairs of candidates are compared. Ties: the cheaper first route, then fewer relays and lower indices.
    """
    direct, relay = prepared(direct_ms, relays=1, relay_ms=relay_ms, precision="float64")
    between = may_relay(len(direct), allowed)
    between = between[(between != source) & (between != destination)]
    cost = np.concatenate([direct[source, destination][None], direct[source, between] + relay + direct[between, destination]])
    site = np.concatenate([[-1], between])
    order = np.lexsort((site, site >= 0, cost))
    order = order[np.isfinite(cost[order])]
    cost, site = cost[order], site[order]
    member = _membership(groups, (source, destination), site)
    best: tuple[float, int, int] | None = None
    for first in range(len(site) - 1):
        if best is not None and 2 * cost[first] >= best[0]:
            break  # the second is no cheaper than the first
        clash = member[first + 1 :] @ member[first] if member.size else np.zeros(len(site) - first - 1)
        free = np.flatnonzero(clash == 0)
        if free.size:
            second = first + 1 + int(free[0])
            total = float(cost[first] + cost[second])
            if best is None or total < best[0]:
                best = (total, first, second)
    if best is None:
        return None
    one, two = (Alternative(float(cost[at] / MS), () if site[at] < 0 else (int(site[at]),)) for at in best[1:])
    return Pair(one, two)


def _membership(groups: Groups | None, ends: tuple[int, int], sites: NDArray[Any]) -> NDArray[np.int64]:
    """[candidates, risks] 1 where a candidate's relay is in a risk group that neither end is in."""
    if groups is None:
        return np.zeros((len(sites), 0), dtype=np.int64)
    apart = {name for end in ends for name in groups[end]}
    names = sorted({name for site in sites if site >= 0 for name in groups[site]} - apart)
    column = {name: at for at, name in enumerate(names)}
    member = np.zeros((len(sites), len(names)), dtype=np.int64)
    for row, site in enumerate(sites):
        for name in groups[site] if site >= 0 else ():
            if name in column:
                member[row, column[name]] = 1
    return member
