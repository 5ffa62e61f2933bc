"""`isochrone inventory fit`: samples from the warehouse or a file, the fit, and what is said of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from inventory.rows import BadRow, Faults, Row, read_table
from inventory.serving import PROFILE_COLUMNS
from records.errors import NoAnswer, UserError
from records.serving import ServingPool, ServingSample
from records.units import MS, US, ms
from routing.fit import Coefficient, Line, ProfileFit, fit_profile
from routing.serving_samples import samples_of
from warehouse import open_warehouse
from warehouse.queries import served_requests

__all__ = ["SAMPLE_COLUMNS", "Fitted", "Names", "fit_file", "fit_warehouse", "fitted_json", "profile_csv"]

SAMPLE_COLUMNS = ("prompt_tokens", "batch", "ttft_ms", "rtt_ms", "tpot_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What a row of the table of profiles is named by; None where nobody said."""

    accelerator: str | None = None
    model: str | None = None
    quantisation: str | None = None
    engine: str | None = None
    max_batch: int | None = None

    @classmethod
    def of(cls, pool: ServingPool) -> Names:
        """The names of a pool's own profile."""
        profile = pool.profile
        return cls(
            accelerator=pool.accelerator,
            model=pool.model,
            quantisation=profile.quantisation,
            engine=profile.engine,
            max_batch=profile.max_batch,
        )

    def missing(self) -> list[str]:
        """The options that would say what is not known yet."""
        known = {"--accelerator": self.accelerator, "--as-model": self.model, "--quantisation": self.quantisation, "--engine": self.engine}
        return [option for option, value in known.items() if value is None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A fit, where its samples are from, and how many requests could not be used for which half."""

    fit: ProfileFit
    source: str
    requests: int
    left_out: Mapping[str, int]
    on: str


def fit_warehouse(address: str, site: str, *, model: str | None, devices: int, window: timedelta | None) -> Fitted:
    """Fit to the inference measurements of a serving site; raises NoAnswer where there are none, UserError where a model must be chosen."""
    now = datetime.now(UTC)
    with open_warehouse(address) as opened:
        found = served_requests(opened, site, now=now, window=window)
    if not found:
        raise NoAnswer(
            f"no answered inference request to {site!r} in {address} in that window; measure some with `isochrone infer --store`"
        )
    if model is None and len(found) > 1:
        raise UserError(f"several models were asked for at {site}: {', '.join(sorted(found))}; choose one with --model")
    name = model or next(iter(found))
    if name not in found:
        raise UserError(f"no request for model {name!r} at {site}; measured were {', '.join(sorted(found))}")
    requests = found[name]
    samples = samples_of(requests, devices=devices)
    return Fitted(
        fit=fit_profile(samples.samples),
        source=f"isochrone inventory fit: {len(requests)} requests for {name} at {site}",
        requests=len(requests),
        left_out=samples.left_out,
        on=now.date().isoformat(),
    )


def fit_file(path: Path) -> Fitted:
    """Fit to a CSV file with SAMPLE_COLUMNS; raises InputError that names every bad row.

    ttft_ms counts where batch is 1 and needs rtt_ms, the network's part of it (0 where it was timed on the server);
    tpot_ms counts at any batch.
    """
    faults = Faults()
    rows = read_table(path, SAMPLE_COLUMNS, _sample, lambda pair: pair[0], faults)
    faults.fail()
    crowded = sum(skipped for _, _, skipped in rows)
    return Fitted(
        fit=fit_profile([sample for _, sample, _ in rows]),
        source=f"isochrone inventory fit: {len(rows)} rows of {path.name}",
        requests=len(rows),
        left_out={"prefill: not alone on the server": crowded} if crowded else {},
        on=datetime.now(UTC).date().isoformat(),
    )


def _sample(row: Row) -> tuple[int, ServingSample, bool]:
    batch = row.number("batch", 1)
    ttft, rtt, tpot = (row.optional_number(column, 0) for column in ("ttft_ms", "rtt_ms", "tpot_ms"))
    tokens = row.whole("prompt_tokens", 1) if row.optional("prompt_tokens") else None
    if ttft is None and tpot is None:
        raise BadRow("ttft_ms and tpot_ms are both empty; a row says at least one of them")
    if ttft is not None and (tokens is None or rtt is None):
        raise BadRow("ttft_ms needs prompt_tokens and rtt_ms beside it (rtt_ms 0 where it was timed on the server itself)")
    if ttft is not None and rtt is not None and ttft <= rtt:
        raise BadRow(f"ttft_ms {ttft:g} is not more than rtt_ms {rtt:g}")
    alone = ttft is not None and batch == 1
    sample = ServingSample(
        prompt_tokens=tokens if alone else None,
        prefill_ns=(ttft - rtt) * MS if alone and ttft is not None and rtt is not None else None,
        batch=batch if tpot else None,
        token_ns=tpot * MS if tpot else None,
    )
    return row.line, sample, ttft is not None and not alone


def fitted_json(fitted: Fitted, names: Names) -> dict[str, object]:
    """The answer as one JSON document; a coefficient that is not known is null and says why."""
    fit = fitted.fit
    return {
        "alpha_ms": _coefficient(fit.decode.intercept, MS),
        "beta_ms": _coefficient(fit.decode.slope, MS),
        "gamma_ms": _coefficient(fit.prefill.intercept, MS),
        "delta_us": _coefficient(fit.prefill.slope, US),
        "decode": _line(fit.decode, "batch", "tpot_ms"),
        "prefill": _line(fit.prefill, "prompt_tokens", "prefill_ms"),
        "error_ratio": fit.error_ratio,
        "requests": fitted.requests,
        "left_out": dict(fitted.left_out),
        "source": fitted.source,
        "profile": dict(zip(PROFILE_COLUMNS, _profile_row(fitted, names), strict=True)) if fit.is_whole and not names.missing() else None,
    }


def _coefficient(found: Coefficient, unit: int) -> dict[str, object]:
    value, low, high = (None if part is None else part / unit for part in (found.value_ns, found.low_ns, found.high_ns))
    return {"value": value, "low": low, "high": high, "why": found.why}


def _line(line: Line, x_name: str, y_name: str) -> dict[str, object]:
    return {
        "samples": line.samples,
        f"{x_name}_min": line.x_min,
        f"{x_name}_max": line.x_max,
        f"{x_name}_p50": line.typical_x,
        f"{y_name}_p50": ms(line.typical_ns),
        "error_ratio": line.error_ratio,
        "error_p90_ratio": line.error_p90_ratio,
    }


def profile_csv(fitted: Fitted, names: Names) -> str:
    """The header and the row for profiles.csv; raises NoAnswer where a coefficient is not known, UserError where a name is not."""
    fit = fitted.fit
    parts = {
        "alpha and beta": fit.decode.intercept if fit.decode.intercept.value_ns is None else fit.decode.slope,
        "gamma and delta": fit.prefill.intercept if fit.prefill.intercept.value_ns is None else fit.prefill.slope,
    }
    unknown = [f"{name}: {part.why}" for name, part in parts.items() if part.value_ns is None]
    if unknown:
        raise NoAnswer(f"a row needs all four coefficients; not known are {'; '.join(unknown)}")
    if missing := names.missing():
        raise UserError(f"a row of profiles.csv also needs {', '.join(missing)}, or --pool that says them all")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([PROFILE_COLUMNS, _profile_row(fitted, names)])
    return text.getvalue()


def _profile_row(fitted: Fitted, names: Names) -> Sequence[object]:
    fit = fitted.fit
    coefficients = (fit.decode.intercept, fit.decode.slope, fit.prefill.intercept, fit.prefill.slope)
    alpha, beta, gamma, delta = (part.value_ns or 0.0 for part in coefficients)
    seen = max(1, round(fit.decode.x_max or 1))
    source = (
        f"{fitted.source}; decode from {fit.decode.samples} samples at batch {fit.decode.x_min:.3g} to {fit.decode.x_max:.3g}, "
        f"prefill from {fit.prefill.samples} of {fit.prefill.x_min:.0f} to {fit.prefill.x_max:.0f} tokens; "
        "error_ratio is the median on held-out samples"
    )
    values = (f"{alpha / MS:.6g}", f"{beta / MS:.4g}", f"{gamma / MS:.4g}", f"{delta / US:.4g}")
    return (
        *(names.accelerator, names.model, names.quantisation, names.engine, *values, names.max_batch or seen),
        *("measured", f"{fit.error_ratio:.3f}", source, fitted.on),
    )
