"""Fitting a performance profile to measurements: alpha, beta of the decode line, gamma, delta of the prefill line.

Both are straight lines in something known (records/serving.py): time per output token = alpha + beta x batch, time to
read a prompt = gamma + delta x tokens. Each is fitted by itself, with coefficients that cannot be negative, to the
*logarithm* of the times: an error counts by its ratio, so that long prompts do not drown short ones, and a mean is
not dragged by the long upper tail that latencies have. The loss is soft L1 (Charbonnier: quadratic near zero, linear
far away), scaled by the residuals' median absolute deviation, so that a few requests that met a pause do not bend the line.

Intervals are 95 %, from the sandwich covariance of an M-estimator (Huber 1967; HC3 of MacKinnon and White 1985) and Student's t:
no assumption that the noise is the same everywhere. The error is the median of |predicted / measured - 1| on samples that the fit did not
see (five folds). What the samples cannot tell is None, with the reason: one batch size says what alpha + beta x batch is
and neither of them; equal prompts say nothing of delta.

Here and not in inventory, which an agent may install without NumPy; pure, like the rest of routing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.stats import t as student_t

from records.serving import ServingSample

__all__ = ["MIN_SAMPLES", "Coefficient", "Line", "ProfileFit", "fit_line", "fit_profile"]

Floats = NDArray[np.float64]

#: Fewest samples for a line.
MIN_SAMPLES = 8
#: Least span of batches, in requests, and least ratio of long to short prompts, that show a slope.
MIN_BATCH_SPAN = 0.5
MIN_PROMPT_RATIO = 1.5
#: A slope whose interval holds zero is unknown if it may also make more than this share of the typical time over what was seen.
_MUCH = 0.5
_NOTHING = 1e-6
_CONFIDENCE = 0.95
_FOLDS = 5
#: Residuals (natural logarithm) below this are agreement; keeps the scale of exact data above zero.
_LEAST_SCALE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficient:
    """A fitted value in ns with its 95 % interval; value None: the samples do not tell, and `why` says why not."""

    value_ns: float | None
    low_ns: float | None = None
    high_ns: float | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """y = intercept + slope x, as far as the samples tell.

    x_min, x_max   what was seen; outside it the line is a guess. None: no sample
    typical_x, typical_ns   the medians of what was seen: all that is known where the slope is not
    error_ratio    median |predicted / measured - 1| on held-out samples; error_p90_ratio its 90th percentile; None: no line
    """

    intercept: Coefficient
    slope: Coefficient
    samples: int
    x_min: float | None
    x_max: float | None
    typical_x: float | None
    typical_ns: float | None
    error_ratio: float | None
    error_p90_ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileFit:
    """Both lines of a profile: prefill is gamma and delta over prompt tokens, decode alpha and beta over the batch."""

    prefill: Line
    decode: Line

    @property
    def is_whole(self) -> bool:
        """Whether all four coefficients are known, so that a profile can be written."""
        parts = (self.prefill.intercept, self.prefill.slope, self.decode.intercept, self.decode.slope)
        return all(part.value_ns is not None for part in parts)

    @property
    def error_ratio(self) -> float | None:
        """The greater of the two lines' errors; None unless both have one."""
        if self.prefill.error_ratio is None or self.decode.error_ratio is None:
            return None
        return max(self.prefill.error_ratio, self.decode.error_ratio)


def fit_profile(samples: Sequence[ServingSample]) -> ProfileFit:
    """The profile that samples tell of; see the module for the method and what None means."""
    prompts = [(s.prompt_tokens, s.prefill_ns) for s in samples if s.prompt_tokens is not None and s.prefill_ns is not None]
    batches = [(s.batch, s.token_ns) for s in samples if s.batch is not None and s.token_ns is not None]
    x, y = _columns(prompts)
    prefill = fit_line(x, y, why_no_slope=_equal_prompts(x))
    if prefill.slope.value_ns is not None and not prefill.slope.low_ns:
        # The interval reaches zero: the times do not show that a longer prompt takes longer.
        why = f"prompts of {prefill.x_min:g} to {prefill.x_max:g} tokens do not differ in time beyond the noise; measure longer ones"
        prefill = _without_slope(x, y, why)
    x, y = _columns(batches)
    decode = fit_line(x, y, why_no_slope=_equal_batches(x))
    if _is_lost_in_noise(decode):
        why = f"batches of {decode.x_min:.3g} to {decode.x_max:.3g} do not differ in time beyond the noise; ask with more requests at once"
        decode = _without_slope(x, y, why)
    if decode.intercept.value_ns is not None and decode.intercept.value_ns <= 0:
        decode = _without_slope(x, y, "the time per token grows in proportion to the batch: no alpha shows; measure smaller batches")
    return ProfileFit(prefill=prefill, decode=decode)


def _is_lost_in_noise(line: Line) -> bool:
    """Whether a slope may be nothing, and may as well be much: zero is in its interval, and so is half of what is measured."""
    low, high = line.slope.low_ns, line.slope.high_ns
    if low is None or high is None or line.x_min is None or line.x_max is None or line.typical_ns is None:
        return False
    return low == 0 and high * (line.x_max - line.x_min) > _MUCH * line.typical_ns


def fit_line(x: Floats, y: Floats, *, why_no_slope: str | None) -> Line:
    """The robust non-negative line through (x, y), y in ns and positive; `why_no_slope` tells that x does not vary enough."""
    if len(x) < MIN_SAMPLES:
        why = f"{len(x)} usable sample{'' if len(x) == 1 else 's'}, {MIN_SAMPLES} are needed"
        return _without_slope(x, y, why)
    if why_no_slope is not None:
        return _without_slope(x, y, why_no_slope)
    fitted, errors = _solve(x, y)
    # Where the bound of zero holds, the solver stops a hair above it.
    fitted[fitted * (1.0, x.max()) < _NOTHING * np.median(y)] = 0.0
    half = errors * student_t.ppf((1 + _CONFIDENCE) / 2, max(1, len(x) - 2))
    low, high = np.maximum(0.0, fitted - half), fitted + half
    held_out = _held_out_errors(x, y)
    return Line(
        intercept=Coefficient(value_ns=float(fitted[0]), low_ns=float(low[0]), high_ns=float(high[0])),
        slope=Coefficient(value_ns=float(fitted[1]), low_ns=float(low[1]), high_ns=float(high[1])),
        samples=len(x),
        x_min=float(x.min()),
        x_max=float(x.max()),
        typical_x=float(np.median(x)),
        typical_ns=float(np.median(y)),
        error_ratio=float(np.median(held_out)),
        error_p90_ratio=float(np.quantile(held_out, 0.9)),
    )


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[Floats, Floats]:
    both = np.array([(a, b) for a, b in pairs if b > 0], dtype=np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _equal_prompts(x: Floats) -> str | None:
    if len(x) and x.max() >= MIN_PROMPT_RATIO * max(1.0, x.min()):
        return None
    seen = f"{x.min():g} to {x.max():g}" if len(x) else "no"
    return f"prompts of {seen} tokens are too alike: the longest must be {MIN_PROMPT_RATIO:g} times the shortest"


def _equal_batches(x: Floats) -> str | None:
    if len(x) and x.max() - x.min() >= MIN_BATCH_SPAN:
        return None
    seen = f"{x.min():.2g}" if len(x) else "none"
    return f"only one batch size ({seen}) was seen on a device; ask with more requests at once to tell alpha from beta"


def _without_slope(x: Floats, y: Floats, why: str) -> Line:
    unknown = Coefficient(value_ns=None, why=why)
    return Line(
        intercept=unknown,
        slope=unknown,
        samples=len(x),
        x_min=float(x.min()) if len(x) else None,
        x_max=float(x.max()) if len(x) else None,
        typical_x=float(np.median(x)) if len(x) else None,
        typical_ns=float(np.median(y)) if len(x) else None,
        error_ratio=None,
        error_p90_ratio=None,
    )


def _solve(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The coefficients (intercept, slope) and their standard errors."""
    # In units of the data: both coefficients are then near one, whatever the machine.
    x_unit, y_unit = float(np.mean(x)) or 1.0, float(np.median(y))
    u, log_y = x / x_unit, np.log(y / y_unit)

    def residuals(c: Floats) -> Floats:
        off: Floats = np.log(np.maximum(c[0] + c[1] * u, 1e-12)) - log_y
        return off

    def jacobian(c: Floats) -> Floats:
        predicted = np.maximum(c[0] + c[1] * u, 1e-12)
        return np.stack((1 / predicted, u / predicted), axis=1)

    slope, intercept = np.polyfit(u, y / y_unit, 1)
    start = np.clip([intercept, slope], 1e-3, None)
    # Twice: the scale of the second is that of a line that outliers have already been told off by.
    for _ in range(2):
        off = residuals(start)
        scale = max(_LEAST_SCALE, 1.4826 * float(np.median(np.abs(off - np.median(off)))))
        start = least_squares(residuals, start, jac=jacobian, bounds=(0, np.inf), loss="soft_l1", f_scale=scale).x
    off, slopes = residuals(start) / scale, jacobian(start) / scale
    # soft L1 is rho = 2 (sqrt(1 + z^2) - 1): psi its first derivative over two, psi' the second.
    psi, bend = off / np.sqrt(1 + off**2), (1 + off**2) ** -1.5
    bread = np.linalg.pinv(slopes.T @ (slopes * bend[:, None]))
    # HC3: a sample that pulls the line towards itself shows too small a residual; its leverage undoes that.
    leverage = np.einsum("ij,jk,ik->i", slopes, bread, slopes) * bend
    meat = slopes.T @ (slopes * ((psi / (1 - np.minimum(leverage, 0.95))) ** 2)[:, None])
    covariance = bread @ meat @ bread
    units = np.array([y_unit, y_unit / x_unit])
    return start * units, np.sqrt(np.maximum(0.0, np.diag(covariance))) * units


def _held_out_errors(x: Floats, y: Floats) -> Floats:
    """|predicted / measured - 1| of every sample by a line fitted without its fold; folds by a fixed shuffle."""
    fold = np.random.default_rng(0).permutation(len(x)) % _FOLDS
    errors = np.empty(len(x))
    for i in range(_FOLDS):
        out = fold == i
        fitted, _ = _solve(x[~out], y[~out])
        errors[out] = np.abs((fitted[0] + fitted[1] * x[out]) / y[out] - 1)
    return errors
