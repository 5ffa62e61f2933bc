"""Fitting profiles: known coefficients come back, intervals cover them, and what cannot be told is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records.serving import ServedRequest, ServingSample
from records.units import MS, US
from routing.fit import MIN_SAMPLES, ProfileFit, fit_profile
from routing.latency import transfer_ns
from routing.serving_samples import samples_of

#: alpha, beta, gamma, delta in ns.
Truth = tuple[float, float, float, float]


def parts(fit: ProfileFit) -> list:
    """The four coefficients in the order alpha, beta, gamma, delta."""
    return [fit.decode.intercept, fit.decode.slope, fit.prefill.intercept, fit.prefill.slope]


def drawn(truth: Truth, *, seed: int, count: int = 60, noise: float = 0.05, paused: int = 0) -> list[ServingSample]:
    """Samples of a machine with these coefficients: lognormal noise, and some requests that met a pause."""
    alpha, beta, gamma, delta = truth
    rng = np.random.default_rng(seed)
    samples = []
    for i in range(count):
        tokens, batch = int(rng.integers(64, 4096)), float(rng.uniform(1, 32))
        pause = 6.0 if i < paused else 1.0
        prefill = (gamma + delta * tokens) * np.exp(rng.normal(0, noise)) * pause
        token = (alpha + beta * batch) * np.exp(rng.normal(0, noise)) * pause
        samples.append(ServingSample(prompt_tokens=tokens, prefill_ns=float(prefill), batch=batch, token_ns=float(token)))
    return samples


@settings(max_examples=30, deadline=None)
@given(
    alpha=st.floats(0.2, 200),
    beta=st.floats(0.02, 5),
    gamma=st.floats(0, 50),
    delta=st.floats(5, 5000),
    seed=st.integers(0, 1000),
)
def test_exact_data_give_back_the_coefficients(alpha: float, beta: float, gamma: float, delta: float, seed: int) -> None:
    """Without noise the four coefficients come back, whatever the machine, and the error is nil."""
    truth = (alpha * MS, beta * MS, gamma * MS, delta * US)
    fit = fit_profile(drawn(truth, seed=seed, count=24, noise=0.0))
    times = (truth[0] + truth[1] * 16, truth[2] + truth[3] * 2000)
    found = [part.value_ns for part in parts(fit)]
    assert found[0] + found[1] * 16 == pytest.approx(times[0], rel=1e-4)
    assert found[2] + found[3] * 2000 == pytest.approx(times[1], rel=1e-4)
    assert found[3] == pytest.approx(truth[3], rel=1e-3)
    assert fit.error_ratio == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("paused", [0, 4])
def test_intervals_cover_the_truth(paused: int) -> None:
    """Over 40 machines with 5 % noise the 95 % intervals hold the truth about as often as they say, pauses or none.

    Binomial 40 at 0.95: fewer than 85 % happens once in 200. Over 300 machines it was 92 to 94 % for each coefficient, also
    where four of 60 requests met a pause and took six times as long.
    """
    held = np.zeros(4)
    for seed in range(40):
        rng = np.random.default_rng(1000 + seed)
        truth = (rng.uniform(1, 50) * MS, rng.uniform(0.05, 0.5) * MS, rng.uniform(2, 20) * MS, rng.uniform(10, 200) * US)
        fit = fit_profile(drawn(truth, seed=seed, paused=paused))
        for i, (part, true) in enumerate(zip(parts(fit), truth, strict=True)):
            # An unknown coefficient claims nothing, and so covers.
            held[i] += part.value_ns is None or part.low_ns <= true <= part.high_ns
    assert (held / 40 >= 0.85).all(), held / 40


def test_the_stated_error_is_that_of_new_requests() -> None:
    """The held-out error agrees with the error on samples of the same machine that the fit never saw, within a third."""
    truth = (20 * MS, 0.3 * MS, 5 * MS, 60 * US)
    fit = fit_profile(drawn(truth, seed=1, count=200, noise=0.1))
    fresh = drawn(truth, seed=2, count=400, noise=0.1)
    alpha, beta, gamma, delta = (part.value_ns for part in parts(fit))
    decode = float(np.median([abs((alpha + beta * s.batch) / s.token_ns - 1) for s in fresh]))
    prefill = float(np.median([abs((gamma + delta * s.prompt_tokens) / s.prefill_ns - 1) for s in fresh]))
    assert fit.decode.error_ratio == pytest.approx(decode, rel=1 / 3)
    assert fit.prefill.error_ratio == pytest.approx(prefill, rel=1 / 3)
    assert fit.error_ratio == max(fit.decode.error_ratio, fit.prefill.error_ratio)


def test_one_batch_size_tells_neither_alpha_nor_beta() -> None:
    """Only their sum at that batch is known; the prefill half is fitted all the same."""
    samples = [
        ServingSample(prompt_tokens=100 * (i + 1), prefill_ns=5 * MS + 60 * US * 100 * (i + 1), batch=1.0, token_ns=20.0 * MS)
        for i in range(12)
    ]
    fit = fit_profile(samples)
    assert (fit.decode.intercept.value_ns, fit.decode.slope.value_ns) == (None, None)
    assert "only one batch size (1)" in (fit.decode.slope.why or "")
    assert (fit.decode.typical_x, fit.decode.typical_ns) == (1.0, 20.0 * MS)
    assert fit.prefill.slope.value_ns == pytest.approx(60 * US, rel=1e-3)
    assert not fit.is_whole
    assert fit.error_ratio is None


def test_a_batch_that_costs_nothing_is_known_to_cost_nothing() -> None:
    """A beta of zero with little noise is a finding and not an unknown: it is at most a small share of alpha."""
    rng = np.random.default_rng(4)
    flat = [ServingSample(batch=float(1 + i % 8), token_ns=20 * MS * float(np.exp(rng.normal(0, 0.02)))) for i in range(40)]
    beta = fit_profile(flat).decode.slope
    assert beta.value_ns is not None
    assert beta.low_ns == 0
    assert 0 <= beta.value_ns <= (beta.high_ns or 0) < 0.2 * MS


def test_what_else_cannot_be_told_is_said() -> None:
    """Equal prompts, prompts whose length does not show in the noise, too few samples, none at all."""
    rng = np.random.default_rng(3)
    equal = [ServingSample(prompt_tokens=512, prefill_ns=40.0 * MS) for _ in range(20)]
    assert "512 to 512 tokens are too alike" in (fit_profile(equal).prefill.slope.why or "")
    drowned = [
        ServingSample(prompt_tokens=int(rng.integers(10, 100)), prefill_ns=100 * MS * float(np.exp(rng.normal(0, 0.5)))) for _ in range(20)
    ]
    assert "do not differ in time beyond the noise" in (fit_profile(drowned).prefill.slope.why or "")
    noise = np.exp(rng.normal(0, 0.5, 20))
    crowd = [ServingSample(batch=1.0 + (i % 2), token_ns=9 * MS * float(noise[i])) for i in range(20)]
    assert "batches of 1 to 2 do not differ in time beyond the noise" in (fit_profile(crowd).decode.slope.why or "")
    few = drawn((20 * MS, 0.3 * MS, 5 * MS, 60 * US), seed=1, count=MIN_SAMPLES - 1)
    assert "7 usable samples, 8 are needed" in (fit_profile(few).decode.slope.why or "")
    assert fit_profile([]).prefill.typical_ns is None


def asked(sent_ms: float, ttft_ms: float, e2e_ms: float, **more: object) -> ServedRequest:
    """A request with ten ms a token, a prompt of 100 tokens in 400 bytes, over a round trip of 5 ms."""
    values = {"token_ns": 10.0 * MS, "prompt_tokens": 100, "request_bytes": 400, "rtt_ns": 5 * MS} | more
    epoch = 1_790_000_000_000_000_000
    return ServedRequest(sent_at_ns=epoch + round(sent_ms * MS), ttft_ns=round(ttft_ms * MS), e2e_ns=round(e2e_ms * MS), **values)  # type: ignore[arg-type]


def test_the_network_is_taken_off_by_the_connections_own_round_trip() -> None:
    """TTFT less the RTT, and less what slow start makes a long prompt wait: 40 kB take one more window, 5 ms."""
    short, long = asked(0, 50, 200), asked(1000, 50, 200, request_bytes=40_000)
    samples = samples_of([short, long]).samples
    assert samples[0].prefill_ns == pytest.approx(45 * MS)
    assert samples[1].prefill_ns == pytest.approx(45 * MS - transfer_ns(40_000, 5.0 * MS))
    assert samples[1].prefill_ns == pytest.approx(40 * MS)


def test_a_half_that_cannot_be_used_is_left_out_and_counted() -> None:
    """No RTT, no count of tokens, a neighbour during prefill, too few tokens: each has its reason."""
    requests = [
        asked(0, 50, 200, rtt_ns=None),
        asked(1000, 50, 200, prompt_tokens=None),
        asked(2000, 50, 200, token_ns=None),
        asked(3000, 50, 200),
        asked(3020, 50, 200),
        asked(5000, 4, 200),
    ]
    found = samples_of(requests)
    assert [s.prefill_ns for s in found.samples] == [None, None, 45 * MS, None, None, None]
    assert sorted(found.left_out.values()) == [1, 1, 1, 1, 2]
    assert found.left_out["prefill: not alone on the server"] == 2
    assert samples_of([]).samples == []


def test_the_batch_is_the_mean_number_decoded_together() -> None:
    """Worked by hand: one decodes from 50 to 150, another from 100 to 200: half of each is shared, over one device or two."""
    requests = [asked(0, 50, 150), asked(50, 50, 150)]
    assert [s.batch for s in samples_of(requests).samples] == pytest.approx([1.5, 1.5])
    crowd = [asked(0, 50, 150) for _ in range(6)]
    assert [s.batch for s in samples_of(crowd, devices=2).samples] == pytest.approx([3.0] * 6)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(1, 100), st.integers(1, 300)), min_size=1, max_size=12))
def test_batches_agree_with_counting_every_millisecond(spans: list[tuple[int, int, int]]) -> None:
    """The prefix sums equal a brute count of who decodes in each whole millisecond."""
    requests = [asked(sent, ttft, ttft + decode) for sent, ttft, decode in spans]
    windows = [range(sent + ttft, sent + ttft + decode) for sent, ttft, decode in spans]
    for sample, window in zip(samples_of(requests).samples, windows, strict=True):
        expected = sum(sum(at in other for other in windows) for at in window) / len(window)
        assert sample.batch == pytest.approx(expected)
