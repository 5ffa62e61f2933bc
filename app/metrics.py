"""What can be asked of a link, in one table: how it is called, read from an estimate, classed, coloured and written.

A new metric is one row. Both the map and the heat map draw from it.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from app import text
from app.identity import by_identity
from records.link import LinkEstimate
from records.units import ms

__all__ = [
    "METRICS",
    "NEAR_FLOOR_MS",
    "Metric",
    "by_pair",
    "class_of",
    "class_titles",
    "degrees",
    "media_of",
    "of_medium",
    "value",
    "worst_first",
]

#: Below this fibre floor (about 200 km) a ratio to it says more of the last mile than of the path.
NEAR_FLOOR_MS = 2.0


@dataclass(frozen=True, slots=True)
class Metric:
    """One quantity of a link.

    read      from an estimate to a number in `unit`, None when not known
    write     from that number to words
    bounds    between the five classes of the map's legend, in `unit`
    scale     which of the theme's scales the heat map uses
    span      low and high end of the heat map's scale; None is taken from the data
    bigger_is_worse is true of all of them: the worst link is the one with the largest number
    """

    name: str
    title: str
    unit: str
    read: Callable[[LinkEstimate], float | None]
    write: Callable[[float | None], str]
    bounds: tuple[float, float, float, float]
    scale: Literal["classes", "sequence"]
    span: tuple[float | None, float | None]
    explain: str


def _inflation(link: LinkEstimate) -> float | None:
    if link.inflation is not None:
        return link.inflation
    if link.rtt_p50_ns is None or not link.fibre_floor_ns:
        return None
    return link.rtt_p50_ns / link.fibre_floor_ns


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "inflation",
            "RTT ÷ fibre floor",
            "×",
            _inflation,
            text.inflation,
            (1.5, 2.0, 2.5, 3.5),
            "classes",
            (1.0, 4.0),
            "median RTT over the least RTT that light in fibre needs along the great circle",
        ),
        Metric(
            "p50",
            "RTT p50",
            "ms",
            lambda link: ms(link.rtt_p50_ns),
            text.milliseconds,
            (30, 80, 150, 220),
            "sequence",
            (0, None),
            "median round-trip time of the probe packets that were answered",
        ),
        Metric(
            "p95",
            "RTT p95",
            "ms",
            lambda link: ms(link.rtt_p95_ns),
            text.milliseconds,
            (30, 80, 150, 220),
            "sequence",
            (0, None),
            "95th percentile of the round-trip time",
        ),
        Metric(
            "loss",
            "Loss",
            "%",
            lambda link: link.loss_ratio,
            text.percent,
            (1e-9, 0.001, 0.01, 0.05),
            "classes",
            (0, 0.05),
            "probe packets lost over probe packets sent",
        ),
        Metric(
            "age",
            "Age",
            "s",
            lambda link: link.age_s,
            text.age,
            (60, 600, 3600, 86_400),
            "sequence",
            (0, None),
            "time since the newest sample",
        ),
    )
}


def value(metric: Metric, link: LinkEstimate) -> float | None:
    """A link's number; None when it is unknown or not finite."""
    number = metric.read(link)
    return number if number is not None and math.isfinite(number) else None


def class_of(metric: Metric, number: float) -> int:
    """The class 0..4 of a number: how many bounds it reaches.

    >>> [class_of(METRICS["loss"], x) for x in (0.0, 0.0005, 0.005, 0.01, 0.5)]
    [0, 1, 2, 3, 4]
    """
    return sum(number >= bound for bound in metric.bounds)


def class_titles(metric: Metric) -> list[str]:
    """The legend of the five classes.

    >>> class_titles(METRICS["p50"])
    ['< 30 ms', '30–80 ms', '80–150 ms', '150–220 ms', '≥ 220 ms']
    >>> class_titles(METRICS["loss"])
    ['none', '< 0.1 %', '0.1–1 %', '1–5 %', '≥ 5 %']
    """
    if metric.name == "age":
        names = [text.age(bound) for bound in metric.bounds]
        return [f"< {names[0]}", *(f"{low} – {high}" for low, high in itertools.pairwise(names)), f"≥ {names[-1]}"]
    factor, unit = (100, " %") if metric.name == "loss" else (1, "×" if metric.unit == "×" else f" {metric.unit}")
    names = [f"{bound * factor:g}" for bound in metric.bounds]
    titles = [f"< {names[0]}{unit}", *(f"{low}–{high}{unit}" for low, high in itertools.pairwise(names)), f"≥ {names[-1]}{unit}"]
    if metric.name == "loss":
        titles[:2] = ["none", f"< {names[1]}{unit}"]
    return titles


def media_of(links: Iterable[LinkEstimate]) -> list[str]:
    """The media there are links over, in the order people read them."""
    present = {link.medium for link in links}
    return [name for name in text.MEDIUM_TITLES if name in present]


def of_medium(links: Iterable[LinkEstimate], medium: str) -> list[LinkEstimate]:
    """The links over one medium; for ``any``, the fastest of each ordered pair (by p50, unknown last)."""
    if medium != "any":
        return [link for link in links if link.medium == medium]
    best: dict[tuple[str, str], LinkEstimate] = {}
    for link in links:
        held = best.get((link.src, link.dst))
        if held is None or _speed(link) < _speed(held):
            best[link.src, link.dst] = link
    return list(best.values())


def _speed(link: LinkEstimate) -> float:
    return math.inf if link.rtt_p50_ns is None else link.rtt_p50_ns


def by_pair(links: Iterable[LinkEstimate]) -> dict[tuple[str, str], LinkEstimate]:
    """Links of one medium by (src, dst)."""
    return {(link.src, link.dst): link for link in links}


@by_identity(8)
def degrees(links: Sequence[LinkEstimate]) -> Counter[str]:
    """How many usable links, of both directions and all media, each site has; sites without one are not there."""
    return Counter(end for link in links if link.gate == "ok" for end in {link.src, link.dst})


@by_identity(32)
def worst_first(links: Sequence[LinkEstimate], metric: Metric, *, near: bool = True) -> list[LinkEstimate]:
    """Links with a known number, largest first (ties by name); `near` False leaves out pairs under NEAR_FLOOR_MS."""
    known = [
        (number, link)
        for link in links
        if (number := value(metric, link)) is not None and (near or (ms(link.fibre_floor_ns) or 0) >= NEAR_FLOOR_MS)
    ]
    return [link for _, link in sorted(known, key=lambda pair: (-pair[0], pair[1].key))]
