"""Which estimate stands for a pair of sites: the RTT that ranks a link, and the best of parallel media.

Between two sites there may be several links, one per medium. Routing takes the fastest usable one: least ranking
RTT, then the better evidence, then the order of records.link.MEDIA.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from records.link import EVIDENCE, MEDIA, Evidence, LinkEstimate

__all__ = ["fastest", "quantile_ns", "rank_rtt_ns", "usable", "worst_evidence"]

_EVIDENCE_RANK: Mapping[Evidence, int] = {"measured": 0, "assumed": 1, "modelled": 2}
assert set(_EVIDENCE_RANK) == set(EVIDENCE)


def rank_rtt_ns(link: LinkEstimate) -> int | None:
    """The RTT in ns a link is ranked by: the median, else the least (a matrix may give only that); None unknown."""
    return link.rtt_p50_ns if link.rtt_p50_ns is not None else link.rtt_min_ns


def quantile_ns(link: LinkEstimate, q: float) -> float | None:
    """The q-quantile (0..1) of a link's RTT in ns; None where it is not known.

    0, 0.5, 0.95 and 0.99 are the estimate's own figures, exact for samples; others come from the histogram,
    within 1 %, and lie between these.
    """
    figures = ((0.0, link.rtt_min_ns), (0.5, link.rtt_p50_ns), (0.95, link.rtt_p95_ns), (0.99, link.rtt_p99_ns))
    known = [(at, value) for at, value in figures if value is not None]
    own = dict(known).get(q)
    if own is not None:
        return own
    found = None if link.histogram is None else link.histogram.quantile_ns(q)
    if found is None:
        return None
    for at, value in known:
        found = max(found, value) if at < q else min(found, value)
    return found


def usable(link: LinkEstimate) -> bool:
    """Whether a link may carry a route: it passed every gate, has an RTT and leads somewhere else."""
    return link.gate == "ok" and link.src != link.dst and rank_rtt_ns(link) is not None


def fastest(links: Iterable[LinkEstimate], *, without: Collection[str] = ()) -> dict[tuple[str, str], LinkEstimate]:
    """The link that stands for each directed pair, over the usable ones that touch no site of `without`."""
    gone = frozenset(without)
    best: dict[tuple[str, str], LinkEstimate] = {}
    for link in links:
        if not usable(link) or link.src in gone or link.dst in gone:
            continue
        pair = (link.src, link.dst)
        if pair not in best or _order(link) < _order(best[pair]):
            best[pair] = link
    return best


def worst_evidence(links: Iterable[LinkEstimate]) -> Evidence | None:
    """The weakest evidence among links (measured, assumed, modelled from strong to weak); None for no links."""
    return max((link.evidence for link in links), key=_EVIDENCE_RANK.__getitem__, default=None)


def _order(link: LinkEstimate) -> tuple[int, int, int]:
    rtt_ns = rank_rtt_ns(link)
    assert rtt_ns is not None
    return rtt_ns, _EVIDENCE_RANK[link.evidence], MEDIA.index(link.medium)
