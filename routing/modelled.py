"""What is not measured: estimates by rule, marked so that they are never taken for measurements.

Two rules, the better one first:

assumed    the reverse direction was measured (a scenario may have slowed it since) and passed its gates; an RTT crosses both
           directions whoever starts it, so its RTT is taken over. Loss goes with it (a lost echo is lost on either way),
           throughput does not.
modelled   fibre floor x inflation, lognormal with median 1.8 and 95th percentile 3.1. The prior is fitted to 4,292
           cleaned pairs of 69 AWS, Azure and Google regions (Skyplane's public grid of April 2022); the middle half of
           them lies between 1.54 and 2.23. Over a backbone it is 1.75 and 3.0: the 1,429 pairs of one provider among them (within
           2 % of Azure's own table of July 2026, 2,780 pairs). Nothing is known of direct connects as a class: they are
           modelled as the internet. The prior spreads over *pairs*: a modelled quantile says how ignorant we are,
           not how much one link varies. An RTT below MODEL_LEAST_RTT_NS is raised to it: two sites of one metro
           are still joined by routers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

from records.link import LinkEstimate, Medium
from records.place import Site, fibre_floor_ns
from routing.media import fastest

__all__ = [
    "INFLATION",
    "INFLATION_P50",
    "INFLATION_P95",
    "MODEL_LEAST_RTT_NS",
    "assumed_link",
    "inflation_sigma",
    "links_between",
    "model_link",
]

INFLATION_P50 = 1.8
INFLATION_P95 = 3.1
MODEL_LEAST_RTT_NS = 500_000

#: Medium -> median and 95th percentile of the inflation over pairs.
INFLATION: dict[Medium, tuple[float, float]] = {
    "internet": (INFLATION_P50, INFLATION_P95),
    "backbone": (1.75, 3.0),
    "direct-connect": (INFLATION_P50, INFLATION_P95),
}

_Z95 = 1.6448536269514722
_Z99 = 2.3263478740408408


def inflation_sigma(inflation: float = INFLATION_P50, inflation_p95: float = INFLATION_P95) -> float:
    """The lognormal's sigma: ln(p95 / p50) / z(0.95). Dimensionless; 0.330 for the prior."""
    return math.log(inflation_p95 / inflation) / _Z95


def model_link(
    src: Site, dst: Site, *, medium: Medium = "internet", inflation: float | None = None, inflation_p95: float | None = None
) -> LinkEstimate:
    """The estimate for a pair nobody measured, evidence `modelled`; the inflation is that of the medium unless given.

    Raises ValueError when the inflation is below 1 or the 95th percentile below the median.
    """
    inflation = INFLATION[medium][0] if inflation is None else inflation
    inflation_p95 = INFLATION[medium][1] if inflation_p95 is None else inflation_p95
    if not 1 <= inflation <= inflation_p95:
        raise ValueError(f"inflation {inflation} with p95 {inflation_p95}: needs 1 <= inflation <= p95")
    floor_ns = fibre_floor_ns(src, dst)
    p99 = inflation * math.exp(inflation_sigma(inflation, inflation_p95) * _Z99)
    p50_ns, p95_ns, p99_ns = (max(MODEL_LEAST_RTT_NS, round(floor_ns * factor)) for factor in (inflation, inflation_p95, p99))
    return LinkEstimate(
        src=src.id,
        dst=dst.id,
        medium=medium,
        rtt_p50_ns=p50_ns,
        rtt_p95_ns=p95_ns,
        rtt_p99_ns=p99_ns,
        evidence="modelled",
        fibre_floor_ns=floor_ns,
        inflation=p50_ns / floor_ns if floor_ns > 0 else None,
    )


def links_between(
    sites: Iterable[Site],
    measured: Iterable[LinkEstimate],
    *,
    to: Iterable[Site] | None = None,
    medium: Medium = "internet",
    inflation: float | None = None,
    inflation_p95: float | None = None,
) -> list[LinkEstimate]:
    """Estimates for the ordered pairs of `sites` (or from `sites` to `to`) that have no usable link in `measured`.

    A usable link of any medium settles its pair. Order: by the order of the sites given.
    """
    known = fastest(link for link in measured if link.evidence != "modelled")
    found = []
    for src, dst in _pairs(list(sites), None if to is None else list(to)):
        if (src.id, dst.id) in known:
            continue
        reverse = known.get((dst.id, src.id))
        if reverse is not None:
            found.append(assumed_link(reverse))
        else:
            found.append(model_link(src, dst, medium=medium, inflation=inflation, inflation_p95=inflation_p95))
    return found


def assumed_link(reverse: LinkEstimate) -> LinkEstimate:
    """The estimate for the direction nobody measured, from the one that was; evidence `assumed`."""
    return replace(reverse, src=reverse.dst, dst=reverse.src, evidence="assumed", throughput_bps=None)


def _pairs(sites: list[Site], to: list[Site] | None) -> Iterator[tuple[Site, Site]]:
    for src in sites:
        for dst in sites if to is None else to:
            if src.id != dst.id:
                yield src, dst
