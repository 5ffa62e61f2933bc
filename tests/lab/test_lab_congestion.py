"""Congestion by time of day: its definition at the moments where it can be worked out by hand, and its symmetries."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.congestion import NO_LOAD, Congestion, Load, combined, middle_longitude, solar_peak_ns

HOUR = 3600 * 10**9
PEAK = Load(delay_ns=8_000_000, jitter_ns=2_000_000, loss_ratio=0.02, rate_share=0.4)
DAY = Congestion(period_ns=24 * HOUR, peak_ns=20 * HOUR, quiet=Load(delay_ns=1_000_000), peak=PEAK)


@pytest.mark.parametrize(
    ("hour", "delay_ms", "loss", "rate_share"),
    [(20, 8, 0.02, 0.4), (8, 1, 0, 1), (14, 4.5, 0.01, 0.7), (2, 4.5, 0.01, 0.7), (44, 8, 0.02, 0.4), (16, 6.25, 0.015, 0.55)],
)
def test_the_day_of_a_link(hour: int, delay_ms: float, loss: float, rate_share: float) -> None:
    """Peak at 20 h, quiet at 8 h, half of it six hours from either, three quarters four hours from the peak, every day."""
    load = DAY.at(hour * HOUR)
    assert load.delay_ns == pytest.approx(delay_ms * 1e6, abs=1)
    assert (load.loss_ratio, load.rate_share) == (pytest.approx(loss), pytest.approx(rate_share))


@given(time=st.integers(0, 10**15), period_s=st.floats(1, 90_000), peak=st.floats(0, 0.999))
def test_a_step_changes_little_and_every_period_is_the_same(time: int, period_s: float, peak: float) -> None:
    """Between quiet and peak at all times, the same a period later, and within a step no further than the cosine's slope."""
    period = int(period_s * 1e9)
    link = Congestion(period_ns=period, peak_ns=int(peak * period), quiet=NO_LOAD, peak=PEAK)
    load = link.at(time)
    assert 0 <= load.delay_ns <= PEAK.delay_ns
    assert PEAK.rate_share <= load.rate_share <= 1
    assert link.at(time + period).delay_ns == pytest.approx(load.delay_ns, abs=20)
    after = link.at(time + link.step_ns)
    assert abs(after.delay_ns - load.delay_ns) <= math.pi * link.step_ns / period * PEAK.delay_ns + 2


def test_loads_add_up() -> None:
    """Waits are summed, packets survive each loss by itself, rates are shared again."""
    both = combined([PEAK, PEAK])
    assert (both.delay_ns, both.jitter_ns) == (16_000_000, 4_000_000)
    assert (both.loss_ratio, both.rate_share) == (pytest.approx(0.0396), pytest.approx(0.16))
    assert combined([]) == NO_LOAD


@pytest.mark.parametrize(
    ("city", "lon", "utc_h"), [("Greenwich", 0, 20), ("Tokyo", 139.65, 10.69), ("San Jose", -121.89, 4.126), ("Auckland", 174.76, 8.349)]
)
def test_the_peak_follows_the_sun(city: str, lon: float, utc_h: float) -> None:
    """20 h of solar time, with the sun at four minutes a degree."""
    assert solar_peak_ns(20, lon, 24 * HOUR) / HOUR == pytest.approx(utc_h, abs=0.001)
    assert solar_peak_ns(20, lon, 240) == pytest.approx(utc_h * 10, abs=1)


@given(a=st.floats(-180, 180), b=st.floats(-180, 180))
def test_the_middle_of_two_longitudes(a: float, b: float) -> None:
    """The middle is where the two unit vectors' sum points to, wherever it points anywhere."""
    x, y = (f(math.radians(a)) + f(math.radians(b)) for f in (math.cos, math.sin))
    if math.hypot(x, y) > 1e-3:
        difference = middle_longitude(a, b) - math.degrees(math.atan2(y, x))
        assert (difference + 180) % 360 - 180 == pytest.approx(0, abs=1e-6)
