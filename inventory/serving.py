"""The tables of what serves and what it costs: accelerators, models, performance profiles, pools."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

from inventory.rows import BadRow, Faults, Row, read_table
from records.serving import Accelerator, Model, PerfProfile, Provenance, ServingPool
from records.units import MS, US

__all__ = ["read_accelerators", "read_models", "read_pools", "read_profiles"]

ACCELERATOR_COLUMNS = ("id", "name", "vendor", "kind", "memory_gb", "usd_per_hour", "source", "as_of")
ACCELERATOR_OPTIONAL = ("bandwidth_gb_per_s", "bf16_tflops", "fp8_tflops", "int8_tflops", "tdp_w")
MODEL_COLUMNS = (
    *("id", "title", "parameters_b", "read_parameters_b", "layers", "kv_bytes_per_token", "context_tokens", "licence"),
    *("source", "as_of"),
)
PROFILE_COLUMNS = (
    *("accelerator", "model", "quantisation", "engine", "alpha_ms", "beta_ms", "gamma_ms", "delta_us"),
    *("max_batch", "provenance", "error_ratio", "source", "as_of"),
)
POOL_COLUMNS = ("id", "site", "accelerator", "device_count", "model", "source", "as_of")
POOL_OPTIONAL = ("usd_per_hour", "quantisation", "engine")
PROVENANCES = ("measured", "published", "roofline")


def read_accelerators(path: Path, faults: Faults) -> list[Accelerator]:
    """Accelerators from CSV, with one device's on-demand price (empty: not known); faults are noted."""

    def make(row: Row) -> Accelerator:
        return Accelerator(
            id=row.text("id"),
            name=row.text("name"),
            vendor=row.text("vendor"),
            kind=cast("Literal['gpu', 'asic', 'cpu']", row.one_of("kind", ("gpu", "asic", "cpu"))),
            memory_gb=row.number("memory_gb", 0.1),
            usd_per_hour=row.optional_number("usd_per_hour", 0),
            source=row.text("source"),
            as_of=row.as_of(),
            bandwidth_gb_per_s=row.optional_number("bandwidth_gb_per_s", 1),
            bf16_tflops=row.optional_number("bf16_tflops", 0.01),
            fp8_tflops=row.optional_number("fp8_tflops", 0.01),
            int8_tflops=row.optional_number("int8_tflops", 0.01),
            tdp_w=row.optional_number("tdp_w", 1),
        )

    return read_table(path, ACCELERATOR_COLUMNS, make, lambda found: found.id, faults, optional=ACCELERATOR_OPTIONAL)


def read_models(path: Path, faults: Faults) -> list[Model]:
    """Models from CSV; parameters stand there in 10^9; faults are noted."""

    def make(row: Row) -> Model:
        parameters, read = row.number("parameters_b", 1e-6) * 1e9, row.number("read_parameters_b", 1e-6) * 1e9
        if read > parameters:
            raise BadRow(f"read_parameters_b {row.text('read_parameters_b')} is more than parameters_b {row.text('parameters_b')}")
        return Model(
            id=row.text("id"),
            title=row.text("title"),
            parameters=parameters,
            read_parameters=read,
            layers=row.whole("layers", 1),
            kv_bytes_per_token=row.whole("kv_bytes_per_token", 1),
            context_tokens=row.whole("context_tokens", 1),
            licence=row.text("licence"),
            source=row.text("source"),
            as_of=row.as_of(),
        )

    return read_table(path, MODEL_COLUMNS, make, lambda model: model.id, faults)


def read_profiles(path: Path, accelerators: Container[str], faults: Faults) -> list[PerfProfile]:
    """Performance profiles from CSV; alpha, beta and gamma stand there in ms, delta in µs a token; faults are noted."""

    def make(row: Row) -> PerfProfile:
        _accelerator(row, accelerators, faults)
        return PerfProfile(
            accelerator=row.text("accelerator"),
            model=row.text("model"),
            quantisation=row.text("quantisation"),
            engine=row.text("engine"),
            alpha_ns=round(row.number("alpha_ms", 1e-6) * MS),
            beta_ns=round(row.number("beta_ms", 0) * MS),
            gamma_ns=round(row.number("gamma_ms", 0) * MS),
            delta_ns=round(row.number("delta_us", 1e-3) * US),
            max_batch=row.whole("max_batch", 1),
            provenance=cast("Provenance", row.one_of("provenance", PROVENANCES)),
            error_ratio=row.optional_number("error_ratio", 0),
            source=row.text("source"),
            as_of=row.as_of(),
        )

    return read_table(path, PROFILE_COLUMNS, make, lambda p: (p.accelerator, p.model, p.quantisation, p.engine), faults)


def read_pools(
    path: Path,
    sites: Container[str],
    accelerators: Mapping[str, Accelerator],
    profiles: Sequence[PerfProfile],
    faults: Faults,
    hourly_usd: Callable[[str, str], float | None] | None = None,
) -> list[ServingPool]:
    """Serving pools from CSV, each with the profile of its accelerator and model; faults are noted.

    usd_per_hour of a pool is the price of all its devices: what the row says, else the device count times what
    `hourly_usd` (accelerator, site) says of one there, else times the accelerator's price, None where that is not
    known. Where several profiles fit, the row's quantisation and engine choose, else the first in the table.
    """

    def make(row: Row) -> ServingPool:
        if row.text("site") not in sites:
            raise faults.missing(row.text("site"), f"site {row.text('site')!r} is not in the inventory")
        accelerator = accelerators[_accelerator(row, accelerators, faults)]
        device_count = row.whole("device_count", 1)
        price = row.optional_number("usd_per_hour", 0)
        if price is None:
            local = hourly_usd(accelerator.id, row.text("site")) if hourly_usd else None
            one = accelerator.usd_per_hour if local is None else local
            price = None if one is None else device_count * one
        row.text("source")
        row.as_of()
        return ServingPool(
            id=row.text("id"),
            site=row.text("site"),
            accelerator=accelerator.id,
            device_count=device_count,
            model=row.text("model"),
            profile=_profile(row, profiles, faults),
            usd_per_hour=price,
        )

    return read_table(path, POOL_COLUMNS, make, lambda pool: pool.id, faults, optional=POOL_OPTIONAL)


def _accelerator(row: Row, accelerators: Container[str], faults: Faults) -> str:
    name = row.text("accelerator")
    if name not in accelerators:
        raise faults.missing(name, f"accelerator {name!r} is not in the table of accelerators")
    return name


def _profile(row: Row, profiles: Sequence[PerfProfile], faults: Faults) -> PerfProfile:
    wanted: dict[str, Callable[[PerfProfile], str]] = {
        "accelerator": lambda p: p.accelerator,
        "model": lambda p: p.model,
        "quantisation": lambda p: p.quantisation,
        "engine": lambda p: p.engine,
    }
    for profile in profiles:
        if all(row.optional(column) in (None, of(profile)) for column, of in wanted.items()):
            return profile
    asked = " / ".join(value for column in wanted if (value := row.optional(column)))
    # A profile is named by its accelerator: where that row is bad, nothing can be said of this one.
    raise faults.missing(row.text("accelerator"), f"no profile for {asked}; add one to the table of profiles")
