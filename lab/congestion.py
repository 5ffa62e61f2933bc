"""Congestion by time of day. Pure: what a busy hour adds to a link is a function of the time alone.

Load rises and falls once in a period as a raised cosine: none at the quiet hour, all of it at the peak half a period
later. That is the shape of the daily traffic of eyeball networks to a first approximation (one broad evening peak, one
trough before dawn); its height is the file's to say. Where the peak is given as local solar time, it follows the
sun: a link's hour is that of the longitude half way between its ends.

Several congestions of one link add up: waits are summed, packets have to survive each loss, rates are shared again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from records.units import SECOND

__all__ = ["NO_LOAD", "Congestion", "Load", "combined", "middle_longitude", "solar_peak_ns"]

#: A period is taken in this many steps, within the bounds below: a link follows its curve within 1.1 % of its height.
_STEPS = 288
_LEAST_STEP_NS = SECOND // 10
_LONGEST_STEP_NS = 60 * SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What congestion does to one directed link at a moment.

    delay_ns    wait that every packet has more
    jitter_ns   mean of an exponential wait that comes on top
    loss_ratio  probability that a packet is lost because of it
    rate_share  the share of its rate that the link still has for this traffic
    """

    delay_ns: int = 0
    jitter_ns: int = 0
    loss_ratio: float = 0.0
    rate_share: float = 1.0


NO_LOAD = Load()


@dataclass(frozen=True, slots=True, kw_only=True)
class Congestion:
    """A link's busy and quiet hours.

    period_ns  after which everything repeats
    peak_ns    the moment of the peak, 0 <= peak_ns < period_ns
    quiet      the load half a period from the peak
    peak       the load at the peak
    """

    period_ns: int
    peak_ns: int
    quiet: Load
    peak: Load

    @property
    def step_ns(self) -> int:
        """How long a value may be kept before it is worked out again."""
        return max(_LEAST_STEP_NS, min(_LONGEST_STEP_NS, self.period_ns // _STEPS))

    def at(self, time_ns: int) -> Load:
        """The load at a time from the start of the lab."""
        phase = ((time_ns - self.peak_ns) % self.period_ns) / self.period_ns
        share = (1 + math.cos(2 * math.pi * phase)) / 2
        quiet, peak = self.quiet, self.peak
        return Load(
            delay_ns=round(quiet.delay_ns + (peak.delay_ns - quiet.delay_ns) * share),
            jitter_ns=round(quiet.jitter_ns + (peak.jitter_ns - quiet.jitter_ns) * share),
            loss_ratio=quiet.loss_ratio + (peak.loss_ratio - quiet.loss_ratio) * share,
            rate_share=quiet.rate_share + (peak.rate_share - quiet.rate_share) * share,
        )


def combined(loads: Iterable[Load]) -> Load:
    """What several loads do to one link together."""
    together = NO_LOAD
    for load in loads:
        together = Load(
            delay_ns=together.delay_ns + load.delay_ns,
            jitter_ns=together.jitter_ns + load.jitter_ns,
            loss_ratio=1 - (1 - together.loss_ratio) * (1 - load.loss_ratio),
            rate_share=together.rate_share * load.rate_share,
        )
    return together


def solar_peak_ns(peak_local_h: float, lon: float, period_ns: int) -> int:
    """When local solar time at a longitude is an hour of the day, in a day of `period_ns` that starts at midnight UTC.

    The sun passes 15 degrees an hour, towards the west; 20 h at 150 degrees east is 10 h UTC.

    >>> solar_peak_ns(20, 150, 24 * 3600 * SECOND) / (3600 * SECOND)
    10.0
    """
    return round((peak_local_h / 24 - lon / 360) % 1.0 * period_ns) % period_ns


def middle_longitude(a: float, b: float) -> float:
    """The longitude half way between two, the short way round.

    >>> middle_longitude(170, -150)
    -170.0
    """
    half = ((b - a + 180) % 360 - 180) / 2
    return (a + half + 180) % 360 - 180
