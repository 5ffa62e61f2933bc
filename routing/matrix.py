"""The all-pairs table: direct RTT against the best one over relays, for every ordered pair of sites."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from records.link import Evidence, LinkEstimate
from records.units import MS
from routing.columns import LinkColumns, Pairs
from routing.engine import Floats, best
from routing.media import fastest, rank_rtt_ns, worst_evidence

__all__ = ["LinkTable", "MatrixRow", "link_table", "rows"]


@dataclass(frozen=True, slots=True)
class LinkTable:
    """Links as the matrix that the engine takes.

    names      the sites that have a usable link, in the order of their ids
    index      the row and column of each
    direct_ms  [N, N] ranking RTT in ms of the fastest usable link; inf where there is none
    legs       the link behind each finite cell
    """

    names: tuple[str, ...]
    index: Mapping[str, int]
    direct_ms: Floats
    legs: Mapping[tuple[str, str], LinkEstimate]


def link_table(links: Iterable[LinkEstimate], *, without: Collection[str] = ()) -> LinkTable:
    """The usable links as a matrix, of parallel media the fastest (routing.media), without some sites."""
    legs: Mapping[tuple[str, str], LinkEstimate]
    if isinstance(links, LinkColumns) and not without:
        legs = pairs = Pairs(links)
        names = tuple(pairs.sites())
        index = {name: i for i, name in enumerate(names)}
        return LinkTable(names, index, pairs.rank_table_ns(index) / MS, legs)
    legs = fastest(links, without=without)
    names = tuple(sorted({name for pair in legs for name in pair}))
    index = {name: i for i, name in enumerate(names)}
    direct = np.full((len(names), len(names)), np.inf)
    if legs:
        ends = np.fromiter((index[name] for pair in legs for name in pair), dtype=np.intp, count=2 * len(legs)).reshape(-1, 2)
        direct[ends[:, 0], ends[:, 1]] = [rank_rtt_ns(link) or 0 for link in legs.values()]
        direct /= MS
    return LinkTable(names, index, direct, legs)


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """One ordered pair.

    direct_ms  median RTT of the fastest usable link; None where no link passed its gates
    best_ms    the best over at most the relays asked for, what the relays add included; None where nothing joins the pair
    relays     the sites between, in the order they are crossed; empty for the direct link
    evidence   the weakest evidence among the legs of the best; None where nothing joins the pair
    """

    src: str
    dst: str
    direct_ms: float | None
    best_ms: float | None
    relays: tuple[str, ...]
    evidence: Evidence | None


def rows(
    links: Iterable[LinkEstimate],
    *,
    relays: int = 1,
    relay_ms: float = 0.5,
    min_gain_ms: float = 0.0,
    fail: Collection[str] = (),
    allowed_relays: Collection[str] | None = None,
) -> list[MatrixRow]:
    """A row for every ordered pair of the sites that have a usable link, in the order of their ids.

    Only links whose gate is ok are used, and of parallel media the fastest (routing.media). A relay replaces an
    existing direct link only for a gain of at least `min_gain_ms` (and of more than nothing); where there is no direct
    link the relay is taken. `fail` removes sites with all their links; `allowed_relays` names the sites that may relay.
    """
    given = link_table(links, without=fail)
    names, index, direct, legs = given.names, given.index, given.direct_ms, given.legs
    allowed = None if allowed_relays is None else [index[name] for name in allowed_relays if name in index]
    found = best(direct, relays=relays, relay_ms=relay_ms, allowed=allowed)
    known = np.isfinite(direct)
    gain = np.subtract(direct, found.cost, out=np.full_like(direct, np.inf), where=known)
    # A gain is a difference of exact nanoseconds read as ms: compare in ns, or 5 ms of gain may read as 4.999...
    keep_direct = known & (np.rint(gain * MS) < round(min_gain_ms * MS))

    table = []
    for src, i in index.items():
        for dst, j in index.items():
            if i == j:
                continue
            direct_ms = float(direct[i, j]) if known[i, j] else None
            via = () if keep_direct[i, j] else tuple(names[k] for k in found.relays(i, j))
            best_ms = direct_ms if keep_direct[i, j] else float(found.cost[i, j])
            if best_ms is None or not np.isfinite(best_ms):
                table.append(MatrixRow(src, dst, direct_ms, None, (), None))
                continue
            stops = (src, *via, dst)
            evidence = worst_evidence(legs[a, b] for a, b in itertools.pairwise(stops))
            table.append(MatrixRow(src, dst, direct_ms, best_ms, via, evidence))
    return table
