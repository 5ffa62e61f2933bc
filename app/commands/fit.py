"""`isochrone inventory fit`: a performance profile from measurements."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.output import emit_json, form_of, json_option, note, table, warehouse_option
from app.quantities import duration_s
from inventory.load import load
from records.errors import NoAnswer, UserError
from records.units import MS, US

if TYPE_CHECKING:
    from app.serving_fit import Fitted
    from records.serving import ServingPool
    from routing.fit import Coefficient, Line

__all__ = ["fit"]


@click.command()
@warehouse_option
@click.option("--samples", type=click.Path(path_type=Path), metavar="FILE", help="A CSV file of samples instead of the warehouse.")
@click.option("--pool", metavar="ID", help="A pool of the inventory: says the site, the devices, and what the profile is named by.")
@click.option("--site", metavar="SITE", help="The serving site whose measurements to take (its id in the warehouse).")
@click.option("--model", metavar="NAME", help="The model as the measurements call it, where several were asked for.")
@click.option("--window", default="all", show_default=True, metavar="DURATION|all", help="Only requests no older than this.")
@click.option("--devices", type=click.IntRange(min=1), metavar="N", help="Devices that share the requests (default: the pool's, else 1).")
@click.option("--accelerator", metavar="ID", help="For the row: the accelerator (default: the pool's).")
@click.option("--as-model", metavar="ID", help="For the row: the model's id in the inventory (default: the pool's).")
@click.option("--quantisation", metavar="WORD", help="For the row, as in bf16 (default: the pool's profile's).")
@click.option("--engine", metavar="WORD", help="For the row, as in vllm (default: the pool's profile's).")
@click.option(
    "--max-batch", type=click.IntRange(min=1), metavar="N", help="For the row: batch slots (default: the pool's, else the most seen)."
)
@click.option(
    "--format", "form", type=click.Choice(["text", "csv"]), default="text", show_default=True, help="csv: the row for profiles.csv."
)
@json_option
def fit(
    warehouse: str,
    samples: Path | None,
    pool: str | None,
    site: str | None,
    model: str | None,
    window: str,
    devices: int | None,
    form: str,
    as_json: bool,
    **named: Any,
) -> None:
    """Fit a performance profile (alpha, beta, gamma, delta) to inference measurements.

    Time per output token = alpha + beta x batch; reading a prompt = gamma + delta x tokens. The network is taken off by
    the round trip that the kernel reports for the same connection. Each coefficient comes with its 95 % interval; one
    that the measurements cannot tell is '-' (null in JSON) with the reason. To tell beta, measure with several requests
    at once (`isochrone infer --at-once`); to tell delta, with prompts of different lengths.

    A file of samples has the columns prompt_tokens,batch,ttft_ms,rtt_ms,tpot_ms; cells may be empty, batch may not.
    Exit status 1: nothing could be fitted, or with --format csv not everything a row needs.

    \b
    Examples:
      isochrone inventory fit --pool fra-l40s --window 24h
      isochrone inventory fit --site fra --accelerator l40s --as-model llama-3.1-8b --quantisation bf16 --engine vllm --format csv
      isochrone inventory fit --samples bench.csv --json
    """
    form = form_of(form, as_json)
    from app.serving_fit import Names, fit_file, fit_warehouse, fitted_json, profile_csv

    chosen = _pool(pool) if pool else None
    base = Names.of(chosen) if chosen else Names()
    names = Names(
        accelerator=named["accelerator"] or base.accelerator,
        model=named["as_model"] or base.model,
        quantisation=named["quantisation"] or base.quantisation,
        engine=named["engine"] or base.engine,
        max_batch=named["max_batch"] or base.max_batch,
    )
    if samples is not None:
        fitted = fit_file(samples)
    elif site or chosen:
        where = site or (chosen.site if chosen else "")
        count = devices or (chosen.device_count if chosen else 1)
        fitted = fit_warehouse(warehouse, load().resolve(where) or where, model=model, devices=count, window=_window(window))
    else:
        raise UserError("say whose measurements to fit: --pool ID, --site SITE, or --samples FILE")
    if form == "csv":
        click.echo(profile_csv(fitted, names), nl=False)
        return
    if as_json:
        emit_json(fitted_json(fitted, names))
    else:
        _show(fitted)
    if fitted.fit.prefill.slope.value_ns is None and fitted.fit.decode.slope.value_ns is None:
        raise NoAnswer("no coefficient could be fitted; the reasons are above")


def _pool(name: str) -> ServingPool:
    pools = {pool.id: pool for pool in load().pools}
    if name not in pools:
        raise UserError(f"no pool {name!r}; known pools are {', '.join(pools)}")
    return pools[name]


def _window(text: str) -> timedelta | None:
    return None if text == "all" else timedelta(seconds=duration_s(text))


def _show(fitted: Fitted) -> None:
    decode, prefill = fitted.fit.decode, fitted.fit.prefill
    parts: list[tuple[str, Coefficient, int]] = [
        ("alpha ms", decode.intercept, MS),
        ("beta ms", decode.slope, MS),
        ("gamma ms", prefill.intercept, MS),
        ("delta us", prefill.slope, US),
    ]
    table(
        ["coefficient", "value", "from", "to"],
        [[name, *(None if v is None else v / unit for v in (c.value_ns, c.low_ns, c.high_ns))] for name, c, unit in parts],
    )
    click.echo()
    _say("decode", decode, "batch", "per token")
    _say("prefill", prefill, "prompt tokens", "to read the prompt")
    for reason, count in fitted.left_out.items():
        note(f"{count} of {fitted.requests} left out of {reason}")


def _say(name: str, line: Line, x_name: str, y_name: str) -> None:
    if line.error_ratio is not None and line.error_p90_ratio is not None:
        error = f"median error {line.error_ratio:.1%}, 90th percentile {line.error_p90_ratio:.1%} on held-out samples"
        click.echo(f"{name}: {line.samples} samples, {x_name} {line.x_min:.3g} to {line.x_max:.3g}; {error}")
        return
    click.echo(f"{name}: not known: {line.intercept.why or line.slope.why}")
    if line.typical_ns is not None and not math.isnan(line.typical_ns):
        click.echo(f"{name}: at {x_name} {line.typical_x:.3g} the median is {line.typical_ns / MS:.3g} ms {y_name}")
