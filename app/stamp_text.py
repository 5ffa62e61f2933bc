"""How a STAMP round reads in a terminal, and its summary as plain values."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import click

from app.output import table
from records.stamp import StampResult, StampSample
from records.statistics import loss_ratio, percentile_ns
from records.units import ms

__all__ = ["show_stamp", "show_stamps", "stamp_summary"]


def stamp_summary(line: StampResult) -> dict[str, object]:
    """What a person would read off a round, as values for JSON; unknown is None."""
    samples = line.samples
    sent = sum(sample.outcome != "send_failed" for sample in samples)
    received = sum(sample.outcome == "reply" for sample in samples)
    return {
        "sent": sent,
        "received": received,
        "send_failed": len(samples) - sent,
        "loss_ratio": loss_ratio(sent, sent - received),
        "forward_lost": line.forward_lost,
        "backward_lost": line.backward_lost,
        "undirected_lost": line.undirected_lost,
        "late": sum(sample.late for sample in samples),
        "duplicates": sum(sample.duplicates for sample in samples),
        "unverified": line.unverified,
        "reflector": line.reflector,
        "rtt_ms": _delays(sample.rtt_ns for sample in samples),
        "residence_ms": _delays(sample.residence_ns for sample in samples),
        "forward_ms": _delays(sample.forward_ns for sample in samples),
        "backward_ms": _delays(sample.backward_ns for sample in samples),
        "clock_error_ms": ms(line.clock_error_ns),
        "forward_pdv_ms": _delays(sample.forward_pdv_ns for sample in samples),
        "backward_pdv_ms": _delays(sample.backward_pdv_ns for sample in samples),
        "forward_ipdv_mean_ms": _mean_ipdv_ms([sample.forward_pdv_ns for sample in samples]),
        "backward_ipdv_mean_ms": _mean_ipdv_ms([sample.backward_pdv_ns for sample in samples]),
        "ts_sources": sorted({sample.ts_source for sample in samples if sample.ts_source is not None}),
    }


def _delays(values: Iterable[int | None]) -> dict[str, float | None] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    at = {"min": min(known), "median": percentile_ns(known, 0.5), "p95": percentile_ns(known, 0.95), "max": max(known)}
    return {name: ms(value) for name, value in at.items()}


def _mean_ipdv_ms(values: list[int | None]) -> float | None:
    """Mean of the differences' size between neighbouring packets (RFC 3393): of PDVs as of delays, for what they lack is constant."""
    steps = [abs(b - a) for a, b in itertools.pairwise(values) if a is not None and b is not None]
    return ms(sum(steps) / len(steps)) if steps else None


def show_stamp(line: StampResult) -> None:
    """Print a round for a person."""
    found = stamp_summary(line)
    click.echo(f"{line.target}: STAMP, {line.mode}, {line.packet_bytes} bytes, {line.engine}")
    faults = sorted({_fault(sample) for sample in line.samples if sample.outcome in {"unreachable", "send_failed"}})
    for fault in faults:
        click.echo(f"  {fault}")
    loss = found["loss_ratio"]
    click.echo(f"  {found['sent']} sent, {found['received']} received, loss {'-' if loss is None else f'{loss:.1%}'}{_direction(line)}")
    if line.unverified:
        click.echo(f"  {line.unverified} replies dropped: their HMAC is not that of the key")
    _row("RTT", found["rtt_ms"], "without the reflector's residence")
    _row("residence", found["residence_ms"], "in the reflector")
    error = f"within {ms(line.clock_error_ns):.3f} ms, the clocks' stated error" if line.clock_error_ns is not None else ""
    _row("there", found["forward_ms"], error)
    _row("back", found["backward_ms"], error)
    _row("there", found["forward_pdv_ms"], "above the least (PDV, RFC 5481)")
    _row("back", found["backward_pdv_ms"], "above the least")
    if line.clock_error_ns is None and found["received"]:
        click.echo("  no one-way delay: a clock of the two states no error (not in step with UTC)")


def show_stamps(lines: Sequence[StampResult]) -> None:
    """One table of rounds that were made at the same time."""
    rows = []
    for line in lines:
        found = stamp_summary(line)
        medians = [
            values["median"] if isinstance(values := found[name], dict) else None for name in ("rtt_ms", "forward_ms", "backward_ms")
        ]
        spreads = [values["p95"] if isinstance(values := found[name], dict) else None for name in ("forward_pdv_ms", "backward_pdv_ms")]
        rows.append([line.target, found["sent"], found["received"], line.forward_lost, line.backward_lost, *medians, *spreads])
    click.echo()
    table(["target", "sent", "received", "lost there", "lost back", "rtt ms", "there ms", "back ms", "pdv there p95", "pdv back p95"], rows)


def _row(name: str, values: object, note: str) -> None:
    if isinstance(values, dict):
        numbers = "  ".join(f"{key} {value:.3f}" for key, value in values.items())
        click.echo(f"  {name:9} {numbers} ms" + (f"  ({note})" if note else ""))


def _direction(line: StampResult) -> str:
    if all(sample.outcome != "reply" for sample in line.samples):
        return ""
    if line.forward_lost is None or line.backward_lost is None:
        return "" if not line.undirected_lost else "; the direction is not known (the reflector does not prove that it counts)"
    rest = f", {line.undirected_lost} after the last reply" if line.undirected_lost else ""
    return f": {line.forward_lost} on the way there, {line.backward_lost} on the way back{rest}"


def _fault(sample: StampSample) -> str:
    if sample.outcome == "unreachable":
        return f"unreachable: ICMP type {sample.icmp_type} code {sample.icmp_code} from {sample.responder or 'an unknown router'}"
    return f"not sent: {sample.error or 'unknown error'}"
