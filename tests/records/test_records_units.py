"""Quantities as a person writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.errors import UnknownSite, UserError
from records.units import ms, ns_from_ms, parse_duration_ns, parse_rate_bps, parse_size_bytes


@pytest.mark.parametrize(
    ("text", "ns"),
    [("200ms", 200_000_000), ("1.5 s", 1_500_000_000), ("2h", 7_200_000_000_000), (".5us", 500), ("7 ns", 7), ("1d", 86_400 * 10**9)],
)
def test_durations(text: str, ns: int) -> None:
    """A number and a unit; the unit is never guessed."""
    assert parse_duration_ns(text) == ns


@pytest.mark.parametrize("text", ["", "5", "ms", "-5ms", "5 MS", "1e3s", "5 fortnights", "5ms5", "nan s"])
def test_a_duration_that_cannot_be_read_says_what_can(text: str) -> None:
    """Without a known unit there is no duration, and the message shows one."""
    with pytest.raises(UserError, match="for example '200ms'"):
        parse_duration_ns(text)


def test_sizes_and_rates_are_decimal_unless_binary_is_said() -> None:
    """kB is 1,000 bytes, KiB 1,024; Mbit/s is 10^6 bit/s."""
    assert parse_size_bytes("64kB") == 64_000
    assert parse_size_bytes("64KiB") == 65_536
    assert parse_rate_bps("2.5Gbit/s") == 2_500_000_000


@given(st.integers(0, 10**15))
def test_ms_and_back(value: int) -> None:
    """Nanoseconds survive the trip through milliseconds."""
    assert ns_from_ms(ms(value)) == value


def test_unknown_stays_unknown() -> None:
    """None is never turned into 0."""
    assert ms(None) is None
    assert ns_from_ms(None) is None


def test_an_unknown_site_proposes_its_neighbours() -> None:
    """A typo is answered with what was probably meant."""
    assert "did you mean aws:us-east-1" in str(UnknownSite("aws:us-est-1", ["aws:us-east-1", "sin"]))
