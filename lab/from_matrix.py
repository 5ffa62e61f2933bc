"""A world made from a matrix of measured round-trip times, so that a real grid becomes real packets.

A matrix knows pairs and nothing between them: every pair that was measured becomes one direct link, and a pair that
was not measured is not joined, because nobody knows its RTT. What goes out takes half of the RTT that was measured from
there, so a pair that was measured from both ends has the mean of the two as its RTT in either direction: a round trip
passes both directions, from whichever end it starts.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from inventory.load import load
from inventory.rows import BadRow, Faults, Row, read_rows
from lab.addresses import MAX_SITES
from lab.topology import Link, Topology, TopologySite
from records.errors import UserError
from records.link import Medium
from records.place import Site, fibre_floor_ns
from records.units import MS

__all__ = ["RTT_COLUMNS", "Matrix", "Measured", "Refused", "read_matrix", "world_of"]

#: The columns of the CSV that may say a pair's RTT.
RTT_COLUMNS = ("rtt_ms", "min_ms", "p50_ms", "p95_ms")
_OPTIONAL = (*RTT_COLUMNS, "stddev_ms", "loss_ratio", "at")
_MAX_RTT_MS = 20_000.0
#: An RTT may be this much below the fibre floor before it is called impossible: coordinates are those of cities.
_FLOOR_TOLERANCE = 0.02
#: Two directions of a pair that differ by more than this are worth telling.
_DIFFERS = 0.02


@dataclass(frozen=True, slots=True)
class Measured:
    """One direction of a pair: RTT and its standard deviation in ms, loss of the round trip; None where not given."""

    rtt_ms: float
    stddev_ms: float | None
    loss_ratio: float | None


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that is not used, with its line in the file, and why."""

    line: int
    src: str
    dst: str
    why: str


@dataclass(slots=True)
class Matrix:
    """What a file holds: every directed pair between sites that are known, and what could not be used.

    repeated  rows of a directed pair beyond its first; their median counts
    unknown   site ids that nobody knows, with how many rows name them
    """

    sites: dict[str, Site] = field(default_factory=dict)
    pairs: dict[tuple[str, str], Measured] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)
    repeated: int = 0
    unknown: Counter[str] = field(default_factory=Counter)

    @property
    def one_way_only(self) -> list[tuple[str, str]]:
        """Pairs that were measured from their first end only."""
        return [(a, b) for a, b in self.pairs if (b, a) not in self.pairs]

    @property
    def unmeasured(self) -> list[tuple[str, str]]:
        """Pairs of sites that were measured from neither end, each once."""
        ids = list(self.sites)
        return [(a, b) for n, a in enumerate(ids) for b in ids[n + 1 :] if (a, b) not in self.pairs and (b, a) not in self.pairs]

    @property
    def differing(self) -> list[tuple[str, str]]:
        """Pairs whose two directions differ by more than 2 %, each once."""
        found = [(a, b) for a, b in self.pairs if a < b and (b, a) in self.pairs]
        return [(a, b) for a, b in found if not math.isclose(self.pairs[a, b].rtt_ms, self.pairs[b, a].rtt_ms, rel_tol=_DIFFERS)]

    def only(self, wanted: Sequence[str]) -> Matrix:
        """The part between some sites; raises UserError for one that the matrix does not have."""
        for site in wanted:
            if site not in self.sites:
                raise UserError(f"the matrix has no usable pair of {site!r}; its sites are {', '.join(list(self.sites)[:20])} ...")
        kept = set(wanted)
        pairs = {pair: found for pair, found in self.pairs.items() if kept.issuperset(pair)}
        sites = {site_id: site for site_id, site in self.sites.items() if site_id in kept and any(site_id in pair for pair in pairs)}
        return Matrix(sites=sites, pairs=pairs, refused=self.refused, repeated=self.repeated, unknown=self.unknown)

    def top(self, count: int) -> Matrix:
        """The part between the `count` sites that lose least: the one with fewest pairs goes first, then the next."""
        partners: dict[str, set[str]] = {site: set() for site in self.sites}
        for a, b in self.pairs:
            partners[a].add(b)
            partners[b].add(a)
        while len(partners) > count:
            # Of equals the last in the file goes.
            least = min(reversed(partners), key=lambda site: len(partners[site]))
            for other in partners.pop(least):
                partners[other].discard(least)
        return self.only(list(partners))


def read_matrix(path: Path, given: Sequence[Site] = (), *, column: str = "rtt_ms", keep_impossible: bool = False) -> Matrix:
    """The matrix in a CSV file with the header ``src,dst,rtt_ms`` and optionally the other columns of the contract.

    given            sites known by these ids, before the inventory's
    column           which of RTT_COLUMNS counts
    keep_impossible  whether to keep RTTs that are faster than light in fibre

    Raises InputError that names every row that does not hold as file:line.
    """
    own = {site.id: site for site in given}
    faults = Faults()
    matrix = Matrix()
    values: dict[tuple[str, str], list[Measured]] = {}
    required = ("src", "dst", column)
    for row in read_rows(path, required, [name for name in _OPTIONAL if name != column], faults):
        try:
            ends = row.text("src"), row.text("dst")
            measured = _measured(row, column)
        except BadRow as error:
            faults.add(path, row.line, str(error))
            continue
        places = [_place(name, own) for name in ends]
        for name, place in zip(ends, places, strict=True):
            if place is None:
                matrix.unknown[name] += 1
        src, dst = places
        if src is None or dst is None:
            continue
        why = _why_not(src, dst, measured, keep_impossible=keep_impossible)
        if why is not None:
            matrix.refused.append(Refused(row.line, src.id, dst.id, why))
            continue
        matrix.sites |= {site.id: site for site in (src, dst) if site.id not in matrix.sites}
        values.setdefault((src.id, dst.id), []).append(measured)
    faults.fail()
    for pair, found in values.items():
        matrix.repeated += len(found) - 1
        matrix.pairs[pair] = _typical(found)
    return matrix


def _measured(row: Row, column: str) -> Measured:
    rtt_ms = row.number(column, 0, _MAX_RTT_MS)
    return Measured(rtt_ms, row.optional_number("stddev_ms", 0, _MAX_RTT_MS), row.optional_number("loss_ratio", 0, 1))


def _place(name: str, own: Mapping[str, Site]) -> Site | None:
    if name in own:
        return own[name]
    inventory = load()
    known = inventory.resolve(name)
    return None if known is None else inventory.sites[known]


def _why_not(src: Site, dst: Site, measured: Measured, *, keep_impossible: bool) -> str | None:
    if src.id == dst.id:
        return "both ends are the same site"
    if measured.rtt_ms <= 0:
        return "no round trip takes no time"
    floor_ms = fibre_floor_ns(src, dst) / MS
    if measured.rtt_ms < floor_ms * (1 - _FLOOR_TOLERANCE) and not keep_impossible:
        return f"{measured.rtt_ms:g} ms is faster than light in fibre, which needs {floor_ms:.1f} ms"
    return None


def _typical(found: Sequence[Measured]) -> Measured:
    def of(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return median(known) if known else None

    return Measured(median(m.rtt_ms for m in found), of([m.stddev_ms for m in found]), of([m.loss_ratio for m in found]))


def world_of(matrix: Matrix, name: str, *, title: str, medium: Medium = "internet", seed: int = 0, jitter: bool = False) -> Topology:
    """The world of a matrix: its sites in the order of the file, and a direct link for every pair that was measured.

    jitter  whether links vary as the standard deviations say. It comes on top of the RTT, which is then the least one

    Raises UserError when there are too few sites or more than have addresses.
    """
    if len(matrix.sites) < 2:
        raise UserError("no pair of the matrix can be used; its sites have to be known, to the inventory or by --sites")
    if len(matrix.sites) > MAX_SITES:
        raise UserError(
            f"{len(matrix.sites)} sites are more than the {MAX_SITES} a lab has addresses for; choose with --top {MAX_SITES} or --only"
        )
    links: list[Link] = []
    order = {site: number for number, site in enumerate(matrix.sites)}
    joined = sorted({(a, b) if order[a] < order[b] else (b, a) for a, b in matrix.pairs}, key=lambda pair: (order[pair[0]], order[pair[1]]))
    for a, b in joined:
        there, back = matrix.pairs.get((a, b)), matrix.pairs.get((b, a))
        for src, dst, own, other in ((a, b, there, back), (b, a, back, there)):
            measured = own or other
            assert measured is not None
            links.append(_link(src, dst, medium, measured, jitter=jitter))
    slug = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._") or "matrix"
    return Topology(
        name=slug,
        title=title,
        seed=seed,
        sites=tuple(TopologySite(place=site) for site in matrix.sites.values()),
        routers=(),
        links=tuple(links),
    )


def _link(src: str, dst: str, medium: Medium, measured: Measured, *, jitter: bool) -> Link:
    """One direction: half the RTT, and as much loss and jitter as make up the round trip's with as much again on the way back."""
    loss = measured.loss_ratio
    stddev_ms = measured.stddev_ms if jitter else None
    return Link(
        src=src,
        dst=dst,
        medium=medium,
        delay_ns=round(measured.rtt_ms * MS / 2),
        # The deviation of the sum of two exponential waits is the root of two times the mean of each.
        jitter_ns=0 if stddev_ms is None else round(stddev_ms * MS / math.sqrt(2)),
        loss_ratio=0.0 if loss is None else 1 - math.sqrt(1 - loss),
    )
