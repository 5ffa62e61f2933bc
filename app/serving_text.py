"""How an inference server's own metrics, and what they leave out, read in a terminal."""

from __future__ import annotations

import click

from records.claims import Disagreement, ServingResult
from records.units import ms

__all__ = ["disagreement_json", "disagreement_text", "serving_summary", "show_serving"]


def serving_summary(line: ServingResult) -> dict[str, object]:
    """What a person would read off a reading, as values for JSON; unknown is None."""
    return {
        "outcome": line.outcome,
        "server": line.server,
        "model": line.model,
        "running": line.requests_running,
        "waiting": line.requests_waiting,
        "kv_cache_ratio": line.kv_cache_ratio,
        "mean_ttft_ms": _mean_ms(line.ttft_sum_ns, line.ttft_count),
        "mean_queue_ms": _mean_ms(line.queue_sum_ns, line.queue_count),
        "mean_prefill_ms": _mean_ms(line.prefill_sum_ns, line.prefill_count),
        "took_ms": ms(line.took_ns),
    }


def _mean_ms(sum_ns: int | None, count: int | None) -> float | None:
    return None if sum_ns is None or not count else ms(sum_ns / count)


def show_serving(line: ServingResult) -> None:
    """Print one reading for a person."""
    if line.outcome != "ok":
        click.echo(f"{line.target}: {line.outcome}: {line.error}")
        return
    kv = "not published" if line.kv_cache_ratio is None else f"{line.kv_cache_ratio:.0%} full"
    click.echo(f"{line.target}: {line.server}, {line.model or 'model not named'}")
    click.echo(f"  {_told(line.requests_running)} running, {_told(line.requests_waiting)} waiting; KV cache {kv}")
    means = [
        ("first token", _mean_ms(line.ttft_sum_ns, line.ttft_count)),
        ("queue", _mean_ms(line.queue_sum_ns, line.queue_count)),
        ("prefill", _mean_ms(line.prefill_sum_ns, line.prefill_count)),
    ]
    told = ", ".join(f"{name} {value:.1f}" for name, value in means if value is not None)
    if told:
        click.echo(f"  mean since it began: {told} ms")
    if line.output_tokens_total is not None:
        click.echo(f"  {_told(line.prompt_tokens_total)} tokens read, {line.output_tokens_total} written since it began")


def _told(value: int | None) -> str:
    return "?" if value is None else str(value)


def disagreement_text(one: Disagreement) -> str:
    """One sentence."""
    claim, seen = one.claim / 1e6, one.seen / 1e6
    match one.kind:
        case "unaccounted":
            return f"the clients waited {seen:.0f} ms in all, less the network; the server accounts for {claim:.0f} ms"
        case "overstated":
            return f"the server says {claim:.0f} ms of waiting for the first token; its clients had {seen:.0f} ms, less the network"
        case "uncounted":
            return f"{one.seen} requests were answered; the server counts {one.claim}: others answer in its place"
        case "absent":
            return f"the server said that it had {one.claim} requests while {one.seen} clients waited for it"


def disagreement_json(one: Disagreement) -> dict[str, object]:
    """As values for JSON; claim and seen in ms where they are times."""
    is_time = one.kind in ("unaccounted", "overstated")
    per = 1e6 if is_time else 1
    return {
        "kind": one.kind,
        "at_ns": one.at_ns,
        "claim": one.claim / per,
        "seen": one.seen / per,
        "unit": "ms" if is_time else "requests",
        "text": disagreement_text(one),
    }
