"""What the Overview shows of a network as a whole: its figures and its map, made once for all sessions that look at the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from app import data, metrics, text
from app.components import netmap
from app.frame import View
from app.identity import by_identity
from app.theme import DARK, LIGHT, ThemeName, theme_of
from records.link import LinkEstimate
from records.place import Site

__all__ = ["QUESTION", "TITLE", "Opening", "drawing", "ends", "kpis", "opening", "ready"]

TITLE = "Overview"
QUESTION = "What is wrong now, and where?"


@by_identity(16)
def ends(links: Sequence[LinkEstimate]) -> list[str]:
    """The ids of the sites at the ends of links, in order."""
    return sorted({end for link in links for end in (link.src, link.dst)})


@by_identity(16)
def _places(links: Sequence[LinkEstimate], key: tuple[str, int]) -> dict[str, Site]:
    known = data.sites_of(key)
    return {site: known[site] for site in ends(links) if site in known}


@by_identity(128)
def drawing(
    links: Sequence[LinkEstimate], key: tuple[str, int], metric_name: str, focus: str | None, theme_name: ThemeName
) -> tuple[bytes, int, int]:
    """The map of links as it goes to the browser, how many pairs it shows, and of how many.

    key   of the source the links are from (`Source.key`)
    """
    metric, colours = metrics.METRICS[metric_name], theme_of(theme_name)
    drawn, total = netmap.link_layer(links, metric, colours, focus=focus, limit=netmap.LINK_LIMIT)
    spec = netmap.map_spec(
        _places(links, key),
        drawn,
        colours,
        legend=netmap.metric_legend(metric, colours),
        focus=focus,
        alt=f"World map of links coloured by {metric.title}",
    )
    return netmap.encoded(spec), len(drawn), total


def kpis(seen: View) -> list[tuple[str, str, str, bool]]:
    """The strip of figures: (name, value, remark, whether it calls for attention)."""
    return [*_kpis(seen.all_links, seen.at, seen.window, seen.medium), _newest(seen.at)]


def _newest(at: data.Source) -> tuple[str, str, str, bool]:
    """How old what is shown is, by the clock of now: a source may be read for a while before it is another's turn."""
    newest = data.newest(at)
    if newest is None:
        return "Newest sample", text.UNKNOWN, "imports without a date", False
    return "Newest sample", text.age(data.age_s(newest)), text.clock(newest), False


@by_identity(32)
def _kpis(links: tuple[LinkEstimate, ...], at: data.Source, window: str, medium: str) -> list[tuple[str, str, str, bool]]:
    seen = View(at, window, medium, links, data.sites(at))
    known = data.counts(seen.at)
    measured = [link for link in seen.all_links if link.evidence == "measured"]
    places = {end for link in measured for end in (link.src, link.dst)}
    kinds = Counter(seen.sites[place].kind for place in places if place in seen.sites)
    lossy = metrics.worst_first(seen.usable, metrics.METRICS["loss"])
    fleet = data.agents(seen.at)
    silent = [name for name, age in zip(fleet["agent"], fleet["age_s"], strict=True) if age is None or age > data.SILENT_AFTER_S]
    kept_out = sum(link.gate != "ok" for link in measured)
    worst = lossy[0] if lossy else None
    return [
        ("Sites", text.count(len(places)), f"{text.plural(kinds['pop'], 'PoP')}, {text.plural(kinds['region'], 'region')}", False),
        ("Links measured", text.count(len(measured)), f"{text.count(kept_out)} kept out", False),
        ("Measurements", text.count(sum(known.values())), _kinds(known), False),
        (
            "Worst loss",
            text.percent(worst.loss_ratio) if worst else text.UNKNOWN,
            f"{worst.src} → {worst.dst}" if worst and worst.loss_ratio else "on every link" if worst else "not measured",
            bool(worst and (worst.loss_ratio or 0) >= 0.05),
        ),
        (
            "Agents silent",
            f"{len(silent)} of {len(fleet['agent'])}" if fleet["agent"] else text.UNKNOWN,
            ", ".join(silent[:2]) + (" …" if len(silent) > 2 else "") if silent else "all report" if fleet["agent"] else "no agent yet",
            bool(silent),
        ),
    ]


def _kinds(known: dict[str, int]) -> str:
    """The most frequent kind of measurement, in words."""
    kind, number = max(known.items(), key=lambda item: item[1], default=("ping", 0))
    words = {
        "ping": "ping rounds",
        "rtt_matrix": "imported",
        "traceroute": "traceroutes",
        "throughput": "transfers",
        "inference": "requests",
    }
    return f"{text.count(number)} {words.get(kind, kind)}"


@dataclass(frozen=True, slots=True)
class Opening:
    """What a new session opens the Overview with, as the browser gets it: figures, the map in both themes, the window they are of."""

    figures: list[tuple[str, str, str, bool]]
    light: bytes
    dark: bytes
    window: str


def ready() -> Opening | None:
    """Make what a new session opens the Overview with, so that it finds it made; None where it would see no link."""
    at = data.source()
    if at is None or not any(data.counts(at).values()):
        return None
    return opening(at, text.default_window(data.newest(at), at.now))


def opening(at: data.Source, window: str) -> Opening | None:
    """What the Overview opens with at a source and a window; None where it would see no link."""
    links = data.read_links(at, window)
    seen = View(at, window, (metrics.media_of(links) or ["internet"])[0], links, data.sites(at))
    figures = kpis(seen)
    light, dark = (drawing(seen.usable, at.key, "inflation", None, name)[0] for name in (LIGHT.name, DARK.name))
    return Opening(figures, light, dark, window) if links else None
