"""Gates: which link estimates may be routed over, and why the others may not.

A search for the least latency picks exactly the rows that are wrong on the low side, so data is judged before it
enters the graph. Nothing is dropped: every estimate comes back with its verdict (records.link.GATES), its
fibre floor and its inflation.

The tests, in the order of GATES (the first that fails is the verdict):

faster_than_light   the least RTT known (the minimum, else the median) is below (1 - tolerance) of the round trip in
                    fibre along the great circle. No network can do that; the clock, the pairing or the place is wrong.
asymmetric          an RTT crosses both directions whoever starts it, so A->B and B->A must be near each other. The
                    smaller direction is kept out when it is below the larger by more than `asymmetry_ns` and by more
                    than `asymmetry_ratio` of the larger; the larger stays, since delay is easily added and never
                    removed. Only the same statistic of the same medium is compared, and only against a
                    reverse that passes every other gate: a stale, thin or impossible row accuses nobody.
stale               the newest sample is older than `max_age_s`; a source without dates cannot be judged
thin                fewer than `min_samples` answers, or no RTT at all; a source that gives no count cannot be judged
ungraded            the estimate came in marked so: its agent failed its own checks
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from records.errors import BadRtt
from records.link import GATES, Gate, LinkEstimate
from records.place import Site, fibre_floor_ns
from records.units import MS

__all__ = ["GatePolicy", "counts", "grade", "inflation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePolicy:
    """The limits of the gates.

    max_age_s        oldest newest-sample allowed, in seconds; None judges no age
    min_samples      least number of answered probe packets
    fibre_tolerance  how far below the fibre floor an RTT may lie, 0..1; allows for city-accurate coordinates
    asymmetry_ns     least difference of the two directions that is called gross, in ns
    asymmetry_ratio  and least share of the larger direction, 0..1
    """

    max_age_s: float | None = 86_400.0
    min_samples: int = 3
    fibre_tolerance: float = 0.02
    asymmetry_ns: int = 20 * MS
    asymmetry_ratio: float = 0.20


def grade(links: Iterable[LinkEstimate], sites: Mapping[str, Site], policy: GatePolicy | None = None) -> list[LinkEstimate]:
    """Every estimate with `gate`, `fibre_floor_ns` and `inflation` filled, in the order given.

    A link with an end that is not in `sites` has no floor and is not judged by it. Inflation is the median (else the
    least) RTT over the floor and None where the floor is zero or unknown. Modelled estimates are given their floor
    and pass: they were made by rule and carry their own mark. Two estimates of one (src, dst, medium) raise
    ValueError: the caller must say which one is meant. An RTT that is NaN or negative raises BadRtt with the link and the field.
    """
    policy = policy or GatePolicy()
    given = list(links)
    by_key = {link.key: link for link in given}
    if len(by_key) < len(given):
        src, dst, medium = next(key for key, n in Counter(link.key for link in given).items() if n > 1)
        raise ValueError(f"two estimates of one link: {src} -> {dst} over {medium}")
    for link in given:
        _sound(link)
    floor_ns = {key: _floor_ns(link, sites) for key, link in by_key.items()}
    alone = {key: _alone(link, floor_ns[key], policy) for key, link in by_key.items()}
    graded = []
    for link in given:
        gate, floor = alone[link.key], floor_ns[link.key]
        if gate != "faster_than_light" and link.evidence != "modelled":
            reverse = by_key.get((link.dst, link.src, link.medium))
            if reverse is not None and alone[reverse.key] == "ok" and reverse.evidence == "measured" and _far_below(link, reverse, policy):
                gate = "asymmetric"
        graded.append(replace(link, gate=gate, fibre_floor_ns=floor, inflation=inflation(link, floor)))
    return graded


def counts(links: Iterable[LinkEstimate]) -> dict[Gate, int]:
    """How many links stand at each gate, in the order of GATES; gates with none are left out."""
    found = Counter(link.gate for link in links)
    return {gate: found[gate] for gate in GATES if found[gate]}


def _floor_ns(link: LinkEstimate, sites: Mapping[str, Site]) -> int | None:
    src, dst = sites.get(link.src), sites.get(link.dst)
    return None if src is None or dst is None else fibre_floor_ns(src, dst)


def inflation(link: LinkEstimate, floor_ns: int | None) -> float | None:
    """The median (else the least) RTT over the floor; None where the floor is zero or unknown, or the RTT is."""
    typical_ns = link.rtt_p50_ns if link.rtt_p50_ns is not None else link.rtt_min_ns
    return typical_ns / floor_ns if typical_ns is not None and floor_ns else None


def _sound(link: LinkEstimate) -> None:
    for name in ("rtt_min_ns", "rtt_p50_ns", "rtt_p95_ns", "rtt_p99_ns"):
        value = getattr(link, name)
        if value is not None and not value >= 0:  # NaN is not either
            raise BadRtt(
                f"link {link.src} -> {link.dst} over {link.medium} has {name} {value}: NaN or negative; give whole ns of 0 or more, "
                "and None where it is not known"
            )


def _alone(link: LinkEstimate, floor_ns: int | None, policy: GatePolicy) -> Gate:
    """The verdict on one estimate by itself, before its reverse is looked at."""
    if link.evidence == "modelled":
        return "ok"
    least_ns = link.rtt_min_ns if link.rtt_min_ns is not None else link.rtt_p50_ns
    if least_ns is not None and floor_ns is not None and least_ns < (1 - policy.fibre_tolerance) * floor_ns:
        return "faster_than_light"
    if policy.max_age_s is not None and link.age_s is not None and link.age_s > policy.max_age_s:
        return "stale"
    if least_ns is None or (link.sample_count is not None and link.sample_count < policy.min_samples):
        return "thin"
    return "ungraded" if link.gate == "ungraded" else "ok"


def _far_below(link: LinkEstimate, reverse: LinkEstimate, policy: GatePolicy) -> bool:
    for mine_ns, other_ns in ((link.rtt_min_ns, reverse.rtt_min_ns), (link.rtt_p50_ns, reverse.rtt_p50_ns)):
        if mine_ns is not None and other_ns is not None:
            gap_ns = other_ns - mine_ns
            return gap_ns > policy.asymmetry_ns and gap_ns > policy.asymmetry_ratio * other_ns
    return False
