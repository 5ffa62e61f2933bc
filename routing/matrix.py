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
from routing.kernel import Form, Indices
from routing.media import fastest, rank_rtt_ns, worst_evidence

__all__ = ["LinkTable", "Matrix", "MatrixRow", "link_table", "rows", "solve"]


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


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """The all-pairs table as arrays, for every ordered pair of the sites that have a usable link.

    names      those sites in the order of their ids; index: the row and column of each
    direct_ms  [N, N] median RTT of the fastest usable link; inf where no link passed its gates
    best_ms    [N, N] the best over at most the relays asked for, what the relays add included; inf where nothing joins the pair
    via1, via2 [N, N] index of the relays of the best in the order they are crossed; -1 for none
    legs       the link behind each finite direct_ms

    The diagonal means nothing.
    """

    names: tuple[str, ...]
    index: Mapping[str, int]
    direct_ms: Floats
    best_ms: Floats
    via1: Indices
    via2: Indices
    legs: Mapping[tuple[str, str], LinkEstimate]

    @property
    def joined(self) -> int:
        """How many ordered pairs have a way."""
        return int(np.isfinite(self.best_ms).sum() - np.isfinite(np.diagonal(self.best_ms)).sum())

    def row(self, i: int, j: int) -> MatrixRow:
        """Row i, column j as a record."""
        src, dst = self.names[i], self.names[j]
        direct, cost = float(self.direct_ms[i, j]), float(self.best_ms[i, j])
        direct_ms = direct if np.isfinite(direct) else None
        if not np.isfinite(cost):
            return MatrixRow(src, dst, direct_ms, None, (), None)
        via = tuple(self.names[k] for k in (self.via1[i, j], self.via2[i, j]) if k >= 0)
        evidence = worst_evidence(self.legs[leg] for leg in itertools.pairwise((src, *via, dst)))
        return MatrixRow(src, dst, direct_ms, cost, via, evidence)

    def rows(self) -> list[MatrixRow]:
        """Every ordered pair as a record, in the order of the ids."""
        count = range(len(self.names))
        return [self.row(i, j) for i in count for j in count if i != j]


def rows(
    links: Iterable[LinkEstimate],
    *,
    relays: int = 1,
    relay_ms: float = 0.5,
    min_gain_ms: float = 0.0,
    fail: Collection[str] = (),
    allowed_relays: Collection[str] | None = None,
) -> list[MatrixRow]:
    """`solve` as a record for every ordered pair, in the order of the ids."""
    return solve(links, relays=relays, relay_ms=relay_ms, min_gain_ms=min_gain_ms, fail=fail, allowed_relays=allowed_relays).rows()


def solve(
    links: Iterable[LinkEstimate],
    *,
    relays: int = 1,
    relay_ms: float = 0.5,
    min_gain_ms: float = 0.0,
    fail: Collection[str] = (),
    allowed_relays: Collection[str] | None = None,
    form: Form = "auto",
) -> Matrix:
    """The best way of every ordered pair of the sites that have a usable link.

    Only links whose gate is ok are used, and of parallel media the fastest (routing.media). A relay replaces an
    existing direct link only for a gain of at least `min_gain_ms` (and of more than nothing); where there is no direct
    link the relay is taken. `fail` removes sites with all their links; `allowed_relays` names the sites that may relay.
    `form` is how the products are computed (routing.kernel); the answer is the same.
    """
    given = link_table(links, without=fail)
    direct = given.direct_ms
    allowed = None if allowed_relays is None else [given.index[name] for name in allowed_relays if name in given.index]
    found = best(direct, relays=relays, relay_ms=relay_ms, allowed=allowed, form=form)
    known = np.isfinite(direct)
    gain = np.subtract(direct, found.cost, out=np.full_like(direct, np.inf), where=known)
    # A gain is a difference of exact nanoseconds read as ms: compare in ns, or 5 ms of gain may read as 4.999...
    keep_direct = known & (np.rint(gain * MS) < round(min_gain_ms * MS))
    return Matrix(
        names=given.names,
        index=given.index,
        direct_ms=direct,
        best_ms=np.where(keep_direct, direct, found.cost),
        via1=np.where(keep_direct, -1, found.via1),
        via2=np.where(keep_direct, -1, found.via2),
        legs=given.legs,
    )
