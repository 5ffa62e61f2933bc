"""The words and number formats of the dashboard: one place, so that one quantity reads the same on every page.

Unknown is an em dash, never a zero.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from records.place import PROVIDERS, Site

__all__ = [
    "ALL_MEDIA",
    "COLD_STARTS",
    "EVIDENCE_MARKS",
    "GATE_TITLES",
    "GROUPS",
    "MEDIUM_TITLES",
    "NO_DATA",
    "OBJECTIVE_TITLES",
    "PART_TITLES",
    "STATE_TITLES",
    "UNKNOWN",
    "WINDOWS",
    "WINDOW_TITLES",
    "age",
    "bits_per_second",
    "bytes_",
    "clock",
    "count",
    "default_window",
    "delta_ms",
    "group_of",
    "inflation",
    "milliseconds",
    "percent",
    "plural",
    "sentence",
    "site_label",
    "usd",
    "wait",
    "window_of",
]

UNKNOWN = "–"

MEDIUM_TITLES = {"any": "Fastest of all", "internet": "Internet", "backbone": "Backbone", "direct-connect": "Direct connect"}

GATE_TITLES = {
    "ok": "passed",
    "faster_than_light": "faster than light",
    "asymmetric": "asymmetric",
    "stale": "stale",
    "thin": "too few samples",
    "ungraded": "degraded agent",
}

EVIDENCE_MARKS = {"measured": "● measured", "modelled": "◌ modelled", "assumed": "? assumed"}

PART_TITLES = {
    "connect": "Connect",
    "upload": "Upload",
    "relay": "Relay",
    "queue": "Queue",
    "prefill": "Prefill",
    "network": "Network back",
    "decode": "Decode",
}

#: What may be least, by its word in requests, files and addresses.
OBJECTIVE_TITLES = {"ttft": "First token", "e2e": "Last token", "cost": "Cost"}

#: Why one city has two times to its first token (routing.evaluate): said wherever one of them is shown.
COLD_STARTS = (
    "A cold connection from a metro ends at the PoP where its people enter, and the way on from there is open already; one from a PoP "
    "ends at the serving site itself: far from there the first token of a city comes sooner as a metro than as a PoP."
)

#: What pages say that look at every medium, whatever the list on the left says.
ALL_MEDIA = "All media together, whatever Medium on the left says."

#: Groups of sites in the order they are listed.
GROUPS = ("PoPs", *PROVIDERS.values(), "Other regions", "Metros")

#: Name of a time window -> its length; None is everything there is.
WINDOWS: dict[str, timedelta | None] = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "all": None,
}
WINDOW_TITLES = {
    "15m": "Last 15 minutes",
    "1h": "Last hour",
    "6h": "Last 6 hours",
    "24h": "Last 24 hours",
    "7d": "Last 7 days",
    "30d": "Last 30 days",
    "all": "All there is",
}

#: What became of a PoP's requests after the loss of a site (routing.served.State).
STATE_TITLES = {
    "unchanged": "unchanged",
    "another way": "↝ other way",
    "moved": "↷ moved",
    "re-homed": "⌂ re-homed",
    "lost": "✕ lost",
}

#: What to do when there is nothing to show; each ends in a command to paste.
NO_DATA = {
    "warehouse": "There is no warehouse at `{location}` yet. Make one by measuring:",
    "empty": "The warehouse at `{location}` is empty. Start an agent, import a matrix, or see it all at once:",
    "window": "Nothing was measured in this window ({window}). The newest measurement is from {newest}; choose a longer window.",
    "path": "No path has been traced between {src} and {dst} yet. Trace one and keep it:",
    "pools": "The inventory has no serving pool, so there is nowhere to send a request. `isochrone inventory list pools` names them.",
}


def default_window(newest: datetime | None, now: datetime) -> str:
    """The window a page opens with: a day, or everything when the newest measurement is older than a day.

    >>> default_window(None, datetime(2026, 1, 2, tzinfo=UTC))
    'all'
    """
    if newest is None or now - newest > timedelta(hours=24):
        return "all"
    return "24h"


def window_of(name: str) -> timedelta | None:
    """The length of a window by its name."""
    return WINDOWS[name]


def milliseconds(value_ms: float | None, *, unit: bool = True) -> str:
    """Milliseconds with three significant figures, two decimals at most.

    >>> milliseconds(0.0421), milliseconds(8.204), milliseconds(172.44), milliseconds(None)
    ('0.042 ms', '8.20 ms', '172.4 ms', '–')
    """
    if value_ms is None or not math.isfinite(value_ms):
        return UNKNOWN
    size = abs(value_ms)
    digits = 1 if size >= 100 else 2 if size >= 1 else 3
    return f"{_rounded(value_ms, digits)}{' ms' if unit else ''}"


def _rounded(value: float, digits: int) -> str:
    """So many decimals, in the one rounding of strips, charts and tables, which browsers draw: of two as near the one further from 0.

    >>> _rounded(172.25, 1), _rounded(473.45, 1), _rounded(1234.5, 1)
    ('172.3', '473.4', '1,234.5')
    """
    if abs(value) >= 1e15:  # more digits than a float has
        return f"{value:,.{digits}f}"
    return f"{Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):,}"


def wait(value_ms: float | None) -> str:
    """How long one waits, in the unit that is counted in: ms, then seconds, then minutes.

    >>> wait(12.5), wait(42_000), wait(165_000), wait(None)
    ('12.50 ms', '42.0 s', '2 min 45 s', '–')
    """
    if value_ms is None or not math.isfinite(value_ms) or value_ms < 1000:
        return milliseconds(value_ms)
    return f"{value_ms / 1000:.1f} s" if value_ms < 59_950 else age(value_ms / 1000)


def delta_ms(value_ms: float | None) -> str:
    """A signed difference in ms with a true minus; what rounds to nothing is shown as ±0.

    >>> delta_ms(3.2), delta_ms(-0.5), delta_ms(0.004), delta_ms(None)
    ('+3.2 ms', '−0.5 ms', '±0 ms', '–')
    """
    if value_ms is None or not math.isfinite(value_ms):
        return UNKNOWN
    if abs(value_ms) < 0.05:
        return "±0 ms"
    return f"{'+' if value_ms > 0 else '−'}{_rounded(abs(value_ms), 1)} ms"


def percent(ratio: float | None, *, unit: bool = True) -> str:
    """A ratio as percent; a ratio above zero never reads as zero.

    >>> percent(0.0), percent(0.00004), percent(0.0312), percent(0.25), percent(None)
    ('0 %', '<0.01 %', '3.12 %', '25.0 %', '–')
    """
    if ratio is None or not math.isfinite(ratio):
        return UNKNOWN
    tail = " %" if unit else ""
    value = ratio * 100
    if value == 0:
        return f"0{tail}"
    if value < 0.01:
        return f"<0.01{tail}"
    return f"{value:.{1 if value >= 10 else 2}f}{tail}"


def inflation(ratio: float | None) -> str:
    """RTT as a multiple of the fibre floor.

    >>> inflation(1.834), inflation(None)
    ('1.83×', '–')
    """
    if ratio is None or not math.isfinite(ratio):
        return UNKNOWN
    return f"{ratio:.{2 if ratio < 10 else 1}f}×" if ratio < 1000 else f"{ratio:,.0f}×"


def age(seconds: float | None) -> str:
    """How long ago, in the two units that matter.

    >>> age(4.4), age(70), age(60), age(7_260), age(200_000), age(50_000_000), age(None)
    ('4 s', '1 min 10 s', '1 min', '2 h 1 min', '2 d 7 h', '1.6 years', '–')
    """
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole < 600 and whole % 60 else "")
    if whole < 86_400:
        return f"{whole // 3600} h" + (f" {whole % 3600 // 60} min" if whole % 3600 >= 60 else "")
    if whole < 90 * 86_400:
        return f"{whole // 86_400} d" + (f" {whole % 86_400 // 3600} h" if whole % 86_400 >= 3600 else "")
    return f"{whole / (365.25 * 86_400):.1f} years"


def bits_per_second(value_bps: float | None) -> str:
    """A rate with a decimal prefix.

    >>> bits_per_second(94_200_000), bits_per_second(1_250_000_000), bits_per_second(None)
    ('94.2 Mbit/s', '1.25 Gbit/s', '–')
    """
    return UNKNOWN if value_bps is None else _prefixed(value_bps, "bit/s")


def bytes_(value_bytes: float | None) -> str:
    """A size with a decimal prefix (kB = 1,000 bytes).

    >>> bytes_(512), bytes_(64_000), bytes_(6.48e15)
    ('512 B', '64.0 kB', '6,480 TB')
    """
    return UNKNOWN if value_bytes is None else _prefixed(value_bytes, "B")


def _prefixed(value: float, unit: str) -> str:
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            scaled = value / factor
            return f"{scaled:,.{0 if scaled >= 100 else 1 if scaled >= 10 else 2}f} {prefix}{unit}"
    return f"{value:.0f} {unit}"


def count(value: int | None) -> str:
    """A whole number with thin groups.

    >>> count(8010), count(None)
    ('8,010', '–')
    """
    return UNKNOWN if value is None else f"{value:,}"


def plural(number: int, word: str, words: str | None = None) -> str:
    """A count and its noun.

    >>> plural(1, "link"), plural(3, "link"), plural(0, "way", "ways")
    ('1 link', '3 links', '0 ways')
    """
    return f"{number:,} {word if number == 1 else words or word + 's'}"


def usd(value: float | None) -> str:
    """US dollars: digits enough to compare small sums, no cents from a thousand on.

    >>> usd(0.00123), usd(1.5), usd(36291.22), usd(None)
    ('$0.0012', '$1.50', '$36,291', '–')
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"${value:,.{0 if abs(value) >= 1000 else 2 if abs(value) >= 1 else 4}f}"


def clock(at: datetime | None) -> str:
    """A time in UTC.

    >>> clock(datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC))
    '2026-05-04 03:02:01 UTC'
    """
    return UNKNOWN if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def sentence(words: str) -> str:
    """An error's message as it reads on a page: errors start small and have no full stop (records.errors).

    >>> sentence("unknown site 'nosuch'; did you mean nou")
    "Unknown site 'nosuch'; did you mean nou."
    >>> sentence("Table with name nosuch does not exist!")
    'Table with name nosuch does not exist!'
    """
    words = words.strip()
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "!", "?", "…", "`")) else ".")


def site_label(site: Site | None, site_id: str) -> str:
    """A site as a person picks it from a list: its id, and the city or region name behind it."""
    if site is None or not site.name or site.name == site_id:
        return site_id
    return f"{site_id} · {site.name}"


def group_of(site: Site) -> str:
    """The group a site is listed under: PoPs, its cloud, or metros."""
    if site.kind == "pop":
        return "PoPs"
    if site.kind == "metro":
        return "Metros"
    return PROVIDERS.get(site.provider or site.id.partition(":")[0], "Other regions")
