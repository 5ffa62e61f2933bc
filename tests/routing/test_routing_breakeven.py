"""The break-even between two ways to serve, by hand and against a search over every integer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing_kit import link, pool, site, workload

from records.units import MS
from routing.answer import to_json
from routing.breakeven import Arm, break_even, payload_break_even_bytes, price_break_even, token_break_even
from routing.latency import transfer_ns
from routing.planner import plan
from routing.request import Request


def arm(ttft_ms, tpot_ms, rtt_ms=0.0, rate_bps=None, **more):
    more.setdefault("name", "arm")
    return Arm(
        ttft_ns=ttft_ms * MS,
        base_ns=ttft_ms * MS,
        tpot_ns=tpot_ms * MS,
        transfer_ns=lambda size: transfer_ns(size, rtt_ms * MS, throughput_bps=rate_bps),
        **more,
    )


@pytest.mark.parametrize(
    ("near", "far", "tokens"),
    [
        # Prefill 70 / 22 ms and 22 / 6.2 ms a token (research note): 5 + 70 against 100 + 22 and 160 + 22.
        ((75, 22.0), (122, 6.2), 1 + 47 / 15.8),
        ((75, 22.0), (182, 6.2), 1 + 107 / 15.8),
        # The near one is slower in both: never.
        ((145, 50.0), (122, 6.2), None),
        # And where it is better in both: never either.
        ((75, 5.0), (122, 6.2), None),
        ((100, 5.0), (100, 6.2), 1.0),
    ],
)
def test_tokens_by_hand(near, far, tokens):
    """n = 1 + dTTFT / dTPOT."""
    assert token_break_even(arm(*near), arm(*far)) == (None if tokens is None else pytest.approx(tokens))


def sixty_fourths(most):
    """Times in ms that binary floats and their sums hold exactly: which of two is sooner is no question of rounding."""
    return st.integers(64, 64 * most).map(lambda number: number / 64)


@given(sixty_fourths(400), sixty_fourths(60), sixty_fourths(400), sixty_fourths(60))
def test_the_winner_changes_at_the_break_even_and_nowhere_else(ttft_a, tpot_a, ttft_b, tpot_b):
    """Against the times of both arms at every n up to 2,000."""
    a, b = arm(ttft_a, tpot_a), arm(ttft_b, tpot_b)
    found = token_break_even(a, b)
    sooner = [ttft_a + (n - 1) * tpot_a < ttft_b + (n - 1) * tpot_b for n in range(1, 2001)]
    flips = [n for n in range(2, 2001) if sooner[n - 1] != sooner[n - 2]]
    if found is None or found > 2000:
        assert flips == []
    elif flips:
        assert flips == [pytest.approx(found, abs=1.0001)]


def test_payload_by_hand():
    """Near: no RTT, 8 Mbit/s = 1 byte a us. Far: first byte 50 ms later, at once. Equal where size / 1e6 s = 50 ms: 50 kB."""
    near, far = arm(0, 1, rate_bps=8e6), arm(50, 1, rate_bps=8e12)
    assert payload_break_even_bytes(near, far) == pytest.approx(50_000, rel=1e-3)
    assert payload_break_even_bytes(arm(0, 1), arm(50, 1)) is None


def test_price_by_hand():
    """0.5 USD of device at 2 USD/h, nothing else, against 0.8 + 0.1: equal at 3.6 USD/h; an unknown price has no break-even."""
    near = arm(1, 1, device_usd=0.5, usd_per_hour=2.0, other_usd=0.0)
    far = arm(1, 1, device_usd=0.8, usd_per_hour=9.0, other_usd=0.1)
    assert price_break_even(near, far) == pytest.approx(3.6)
    assert price_break_even(arm(1, 1), far) is None
    # 1,000 answers of 1 MB are 1 GB: the far one may cost 0.5 in all, but its device alone is 0.8: no price of egress mends that.
    assert break_even(near, far, output_tokens=2, far_egress_bytes=10**6).usd_per_gb is None
    assert break_even(far, near, output_tokens=2, far_egress_bytes=10**6).usd_per_gb == pytest.approx(0.4)


def test_the_planner_answers_with_the_break_even_of_edge_and_cloud():
    """An edge pool of 22 ms a token at 5 ms, a cloud pool of 6 ms a token at 100 ms, warm: TTFT 5 + 20 and 100 + 20 ms; 1 + 95/16."""
    sites = {s.id: s for s in (site("here"), site("edge", 0, 1), site("aws:us-east-1", 39, -77))}
    links = [link("here", "edge", 5), link("here", "aws:us-east-1", 100)]
    pools = [pool("edge", alpha_ns=22 * MS), pool("aws:us-east-1", alpha_ns=6 * MS)]
    answer = plan(Request(source="here", workload=workload(), connection="warm", relays=0), links=links, sites=sites, pools=pools)
    found = to_json(answer)["break_even"]
    assert found["flips_at"]["output_tokens"] == pytest.approx(1 + 95 / 16)
    assert found["winner"]["ttft"].startswith("edge-pool")
    assert found["winner"]["e2e"].startswith("aws:us-east-1-pool")
