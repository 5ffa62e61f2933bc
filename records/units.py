"""Units: the only conversions in the product, and the parsing of quantities a person typed.

Inside, times are integers of nanoseconds, rates are bits per second, sizes are bytes (decimal: GB = 10^9
bytes), distances kilometres. Milliseconds, Mbit/s and percent exist only where a person reads.
"""

from __future__ import annotations

import math
import re

from records.errors import UserError

__all__ = [
    "DAY",
    "FIBRE_KM_PER_S",
    "GB",
    "MS",
    "SECOND",
    "SPEED_OF_LIGHT_KM_PER_S",
    "ms",
    "ns_from_ms",
    "parse_duration_ns",
    "parse_rate_bps",
    "parse_size_bytes",
]

US = 1_000
MS = 1_000_000
SECOND = 1_000_000_000
DAY = 86_400 * SECOND
GB = 1_000_000_000

SPEED_OF_LIGHT_KM_PER_S = 299_792.458
#: Light in fibre travels at two thirds of c (refractive index about 1.5).
FIBRE_KM_PER_S = SPEED_OF_LIGHT_KM_PER_S * 2 / 3

_DURATION = {"ns": 1, "us": US, "µs": US, "ms": MS, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND, "d": 86400 * SECOND}
_SIZE = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_RATE = {"bit/s": 1, "bps": 1, "kbit/s": 10**3, "mbit/s": 10**6, "gbit/s": 10**9, "kbps": 10**3, "mbps": 10**6, "gbps": 10**9}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-zµ/]*)\s*")


def ms(value_ns: float | None) -> float | None:
    """Nanoseconds as milliseconds; unknown stays unknown.

    >>> ms(1_500_000), ms(None)
    (1.5, None)
    """
    return None if value_ns is None else value_ns / MS


def ns_from_ms(value_ms: float | None) -> int | None:
    """Milliseconds as whole nanoseconds; unknown stays unknown.

    >>> ns_from_ms(0.25), ns_from_ms(None)
    (250000, None)
    """
    return None if value_ms is None else round(value_ms * MS)


def _parse(text: str, units: dict[str, int], what: str, example: str, *, lower: bool) -> float:
    match = _QUANTITY.fullmatch(text)
    unit = (match[2].lower() if lower else match[2]) if match else ""
    if match is None or unit not in units:
        allowed = ", ".join(repr(unit) for unit in units if unit)
        raise UserError(f"cannot read {text!r} as a {what}; give a number and one of {allowed}, for example {example!r}")
    value = float(match[1]) * units[unit]
    if not math.isfinite(value):
        raise UserError(f"{text!r} is too large for a {what}")
    return value


def parse_duration_ns(text: str) -> int:
    """A duration such as ``200ms``, ``5s``, ``2h`` in nanoseconds.

    >>> parse_duration_ns("200ms")
    200000000
    """
    return round(_parse(text, _DURATION, "duration", "200ms", lower=False))


def parse_rate_bps(text: str) -> int:
    """A rate such as ``100Mbit/s`` in bits per second (decimal prefixes).

    >>> parse_rate_bps("100Mbit/s")
    100000000
    """
    return round(_parse(text, _RATE, "rate", "100Mbit/s", lower=True))


def parse_size_bytes(text: str) -> int:
    """A size such as ``64kB`` (decimal) or ``64KiB`` (binary) in bytes.

    >>> parse_size_bytes("64kB"), parse_size_bytes("64KiB")
    (64000, 65536)
    """
    return round(_parse(text, _SIZE, "size", "64kB", lower=True))
