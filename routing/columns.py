"""Link estimates as columns: a dense network of 700 sites is half a million links, and an answer shows five of them.

`LinkColumns` is a sequence of LinkEstimate whose elements are made when they are looked at, the same object every time.
`grade` gives the verdicts of routing.gates.grade, which defines them, on whole columns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from records.histogram import Histogram
from records.link import GATES, MEDIA, Gate, LinkEstimate
from records.place import EARTH_RADIUS_KM, Site, fibre_floor_ns
from records.units import FIBRE_KM_PER_S, SECOND
from routing import gates
from routing.gates import GatePolicy

__all__ = ["GATE_NAMES", "LinkColumns", "Pairs", "grade"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

GATE_NAMES = tuple(GATES)
_OK, _LIGHT, _ASYMMETRIC, _STALE, _THIN, _UNGRADED = (
    GATE_NAMES.index(name) for name in ("ok", "faster_than_light", "asymmetric", "stale", "thin", "ungraded")
)
#: Verdicts on an RTT this near to the limit are taken one by one: NumPy's sine differs from the C library's in the last digit.
_NEAR_NS = 16.0


@dataclass(frozen=True, eq=False)
class LinkColumns(Sequence[LinkEstimate]):
    """Measured and imported links by (src, dst, medium), graded; NaN or None where something is not known.

    names           site ids
    src, dst        [N] index into names
    medium          [N] index into records.link.MEDIA
    rtt_*_ns        [N] whole ns
    throughput_bps  by position, where known
    gate            [N] index into GATE_NAMES
    sample_count, is_ungraded, rtt_from, grain  [N] as in LinkEstimate; of imports where not given
    bucket_from, bucket_until  [N] which of `buckets` [B, 2] (bucket, samples) are a link's histogram; -1 for none
    sites           places, for the floor of a link that is looked at
    """

    names: Sequence[str]
    src: Ints
    dst: Ints
    medium: Ints
    rtt_min_ns: Floats
    rtt_p50_ns: Floats
    rtt_p95_ns: Floats
    loss_ratio: Floats
    age_s: Floats
    throughput_bps: Mapping[int, float] = field(default_factory=dict)
    gate: Ints = field(default_factory=lambda: np.empty(0, dtype=np.intp))
    sites: Mapping[str, Site] = field(default_factory=dict)
    rtt_p99_ns: Floats | None = None
    sample_count: Floats | None = None
    is_ungraded: NDArray[np.bool_] | None = None
    rtt_from: NDArray[np.object_] | None = None
    grain: NDArray[np.object_] | None = None
    bucket_from: NDArray[np.int64] | None = None
    bucket_until: NDArray[np.int64] | None = None
    buckets: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.src)

    @overload
    def __getitem__(self, at: int) -> LinkEstimate: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[LinkEstimate, ...]: ...
    def __getitem__(self, at: int | slice) -> LinkEstimate | tuple[LinkEstimate, ...]:
        if isinstance(at, slice):
            return tuple(self[i] for i in range(*at.indices(len(self))))
        at = range(len(self))[at]
        if at not in self._made:
            self._made[at] = self._make(at)
        return self._made[at]

    def __iter__(self) -> Iterator[LinkEstimate]:
        return (self[at] for at in range(len(self)))

    @cached_property
    def _made(self) -> dict[int, LinkEstimate]:
        return {}

    @cached_property
    def rank_ns(self) -> Floats:
        """[N] what a link is ranked by (routing.media.rank_rtt_ns)."""
        return np.where(np.isnan(self.rtt_p50_ns), self.rtt_min_ns, self.rtt_p50_ns)

    @cached_property
    def usable(self) -> NDArray[np.bool_]:
        """[N] whether a link may carry a route (routing.media.usable)."""
        return np.asarray((self.gate == _OK) & (self.src != self.dst) & ~np.isnan(self.rank_ns), dtype=np.bool_)

    def counts(self) -> dict[Gate, int]:
        """How many links stand at each gate (routing.gates.counts)."""
        found = np.bincount(self.gate, minlength=len(GATE_NAMES))
        return {gate: int(n) for gate, n in zip(GATE_NAMES, found, strict=True) if n}

    def without(self, names: Collection[str]) -> LinkColumns:
        """The links that neither begin nor end at a site of `names`; of links looked at before the same objects."""
        gone = np.array([name in names for name in self.names], dtype=np.bool_)
        kept = np.flatnonzero(~(gone[self.src] | gone[self.dst]))
        if len(kept) == len(self):
            return self
        given = {name: getattr(self, name) for name in _BY_LINK}
        columns: dict[str, Any] = {name: values[kept] for name, values in given.items() if values is not None and len(values)}
        place = {int(at): i for i, at in enumerate(kept)} if self.throughput_bps or self._made else {}
        made = replace(
            self,
            **columns,
            throughput_bps={place[at]: rate for at, rate in self.throughput_bps.items() if at in place},
        )
        made._made.update({place[at]: link for at, link in self._made.items() if at in place})
        return made

    def _histogram(self, at: int) -> Histogram | None:
        if self.bucket_from is None or self.bucket_until is None or self.buckets is None or self.bucket_from[at] < 0:
            return None
        return Histogram(np.ascontiguousarray(self.buckets[self.bucket_from[at] : self.bucket_until[at]], dtype=np.int64).tobytes())

    def _make(self, at: int) -> LinkEstimate:
        made = LinkEstimate(
            src=self.names[self.src[at]],
            dst=self.names[self.dst[at]],
            medium=MEDIA[self.medium[at]],
            rtt_min_ns=_whole(self.rtt_min_ns[at]),
            rtt_p50_ns=_whole(self.rtt_p50_ns[at]),
            rtt_p95_ns=_whole(self.rtt_p95_ns[at]),
            rtt_p99_ns=None if self.rtt_p99_ns is None else _whole(self.rtt_p99_ns[at]),
            loss_ratio=_known(self.loss_ratio[at]),
            throughput_bps=self.throughput_bps.get(at),
            sample_count=None if self.sample_count is None else _whole(self.sample_count[at]),
            age_s=_known(self.age_s[at]),
            gate="ungraded" if self.is_ungraded is not None and self.is_ungraded[at] else "ok",
            histogram=self._histogram(at),
            rtt_from="import" if self.rtt_from is None else self.rtt_from[at],
            grain=None if self.grain is None else self.grain[at],
        )
        if not len(self.gate):
            return made
        src, dst = self.sites.get(made.src), self.sites.get(made.dst)
        floor_ns = None if src is None or dst is None else fibre_floor_ns(src, dst)
        return replace(made, gate=GATE_NAMES[self.gate[at]], fibre_floor_ns=floor_ns, inflation=gates.inflation(made, floor_ns))


#: The fields of LinkColumns with a value for each link.
_BY_LINK = (
    *("src", "dst", "medium", "rtt_min_ns", "rtt_p50_ns", "rtt_p95_ns", "rtt_p99_ns", "loss_ratio", "age_s", "gate"),
    *("sample_count", "is_ungraded", "rtt_from", "grain", "bucket_from", "bucket_until"),
)


def grade(links: LinkColumns, sites: Mapping[str, Site], policy: GatePolicy | None = None) -> LinkColumns:
    """The links with the verdicts of routing.gates.grade; raises what that raises."""
    policy = policy or GatePolicy()
    n = len(links.names)
    key = (links.src * n + links.dst) * len(MEDIA) + links.medium
    in_order = bool((key[1:] > key[:-1]).all())  # as a warehouse gives them, mostly
    order = np.arange(len(key)) if in_order else np.argsort(key, kind="stable")
    ordered = key[order]
    rtts = np.stack([links.rtt_min_ns, links.rtt_p50_ns, links.rtt_p95_ns, *([] if links.rtt_p99_ns is None else [links.rtt_p99_ns])])
    if (ordered[1:] == ordered[:-1]).any() or (rtts < 0).any():
        gates.grade(links, sites, policy)  # says what is wrong
    gate = _alone(links, sites, policy)
    # Where the same link the other way stands; itself where there is none.
    back = (links.dst * n + links.src) * len(MEDIA) + links.medium
    place = np.minimum(np.searchsorted(ordered, back), max(0, len(ordered) - 1))
    reverse = np.where(ordered[place] == back, order[place], np.arange(len(key))) if len(key) else order
    stands = (gate != _LIGHT) & (gate[reverse] == _OK) & (reverse != np.arange(len(key)))
    below = np.zeros(len(key), dtype=np.bool_)
    judged = np.zeros(len(key), dtype=np.bool_)
    for mine in (links.rtt_min_ns, links.rtt_p50_ns):  # the first statistic that both have
        gap = mine[reverse] - mine
        both = ~np.isnan(gap) & ~judged
        below |= both & (gap > policy.asymmetry_ns) & (gap > policy.asymmetry_ratio * mine[reverse])
        judged |= both
    return replace(links, gate=np.where(stands & below, _ASYMMETRIC, gate), sites=sites)


def _alone(links: LinkColumns, sites: Mapping[str, Site], policy: GatePolicy) -> Ints:
    least_ns = np.where(np.isnan(links.rtt_min_ns), links.rtt_p50_ns, links.rtt_min_ns)
    places = [sites.get(name) for name in links.names]
    lat, lon = (np.radians([np.nan if site is None else getattr(site, name) for site in places]) for name in ("lat", "lon"))
    half_lat, half_lon = (lat[links.dst] - lat[links.src]) / 2, (lon[links.dst] - lon[links.src]) / 2
    h = np.sin(half_lat) ** 2 + np.cos(lat)[links.src] * np.cos(lat)[links.dst] * np.sin(half_lon) ** 2
    floor_ns = np.rint(2 * 2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(1.0, np.sqrt(h))) / FIBRE_KM_PER_S * SECOND)
    light = least_ns < (1 - policy.fibre_tolerance) * floor_ns  # a comparison with what is not known is false
    for at in np.flatnonzero(np.abs(least_ns - (1 - policy.fibre_tolerance) * floor_ns) < _NEAR_NS):
        src, dst = places[links.src[at]], places[links.dst[at]]
        assert src is not None
        assert dst is not None
        light[at] = least_ns[at] < (1 - policy.fibre_tolerance) * fibre_floor_ns(src, dst)
    stale = np.zeros(len(links), dtype=np.bool_) if policy.max_age_s is None else links.age_s > policy.max_age_s
    thin = np.isnan(least_ns)
    if links.sample_count is not None:
        thin |= links.sample_count < policy.min_samples
    ungraded = np.zeros(len(links), dtype=np.bool_) if links.is_ungraded is None else links.is_ungraded
    return np.select([light, stale, thin, ungraded], [_LIGHT, _STALE, _THIN, _UNGRADED], _OK).astype(np.intp)


def _whole(value: Any) -> int | None:
    return None if np.isnan(value) else int(value)


def _known(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


class Pairs(Mapping[tuple[str, str], LinkEstimate]):
    """The fastest usable link of every directed pair, as routing.media.fastest gives it; objects are made when asked for."""

    def __init__(self, links: LinkColumns) -> None:
        self._links = links
        self._code = {name: i for i, name in enumerate(links.names)}
        rows = np.flatnonzero(links.usable)
        pair = links.src[rows] * len(self._code) + links.dst[rows]
        self._row_of = np.full((len(self._code), len(self._code)), -1, dtype=np.int32)
        #: The row of each pair's link, in the order of the links.
        self._rows = rows
        self._parallel: dict[tuple[str, str], list[int]] = {}
        self._row_of.reshape(-1)[pair] = rows
        if (self._row_of.reshape(-1)[pair] != rows).any():  # pairs with several media, of which the last row stands
            by_rank = np.lexsort((links.medium[rows], links.rank_ns[rows], pair))
            first = np.ones(len(rows), dtype=np.bool_)
            first[1:] = pair[by_rank][1:] != pair[by_rank][:-1]
            self._rows = np.sort(rows[by_rank[first]])
            self._row_of[links.src[self._rows], links.dst[self._rows]] = self._rows
            crowded = np.unique(pair[by_rank][~first])
            for row in rows[np.isin(pair, crowded)]:
                self._parallel.setdefault((links.names[links.src[row]], links.names[links.dst[row]]), []).append(int(row))

    def _row(self, pair: tuple[str, str]) -> int:
        i, j = self._code.get(pair[0]), self._code.get(pair[1])
        return -1 if i is None or j is None else int(self._row_of[i, j])

    def __getitem__(self, pair: tuple[str, str]) -> LinkEstimate:
        row = self._row(pair)
        if row < 0:
            raise KeyError(pair)
        return self._links[row]

    def __contains__(self, pair: object) -> bool:
        return isinstance(pair, tuple) and self._row(pair) >= 0

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        names = self._links.names
        return ((names[i], names[j]) for i, j in zip(self._links.src[self._rows], self._links.dst[self._rows], strict=True))

    def parallel(self, pair: tuple[str, str]) -> list[LinkEstimate]:
        """Every usable link of a pair, in the order of the links."""
        row = self._row(pair)
        return [] if row < 0 else [self._links[at] for at in self._parallel.get(pair, [row])]

    def sites(self) -> list[str]:
        """The ends of all pairs, by id."""
        ends = np.bincount(self._links.src[self._rows], minlength=len(self._code)) + np.bincount(
            self._links.dst[self._rows], minlength=len(self._code)
        )
        return sorted(self._links.names[end] for end in np.flatnonzero(ends).tolist())

    def rank_table_ns(self, sources: Mapping[str, int], targets: Mapping[str, int] | None = None) -> Floats:
        """[sources, targets] ranking RTT in ns by the indices of names given (one: of both); inf where there is no link.

        Links of other names are left out.
        """
        targets = sources if targets is None else targets
        from_, to = (np.array([index.get(name, -1) for name in self._links.names], dtype=np.intp) for index in (sources, targets))
        table = np.full((len(sources), len(targets)), np.inf)
        src, dst = from_[self._links.src[self._rows]], to[self._links.dst[self._rows]]
        within = (src >= 0) & (dst >= 0)
        table[src[within], dst[within]] = self._links.rank_ns[self._rows[within]]
        return table

    @cached_property
    def _kept_out(self) -> NDArray[np.int8]:
        links = self._links
        table = np.full(self._row_of.shape, _OK, dtype=np.int8)
        rows = np.flatnonzero(links.gate != _OK)
        table[links.src[rows], links.dst[rows]] = links.gate[rows]  # of equal places the last is kept
        table[self._row_of >= 0] = _OK
        return table

    def kept_out(self, pair: tuple[str, str]) -> Gate | None:
        """The verdict on a pair that has links and none that is usable, of several links the last; None for any other."""
        i, j = self._code.get(pair[0]), self._code.get(pair[1])
        gate = _OK if i is None or j is None else int(self._kept_out[i, j])
        return None if gate == _OK else GATE_NAMES[gate]
