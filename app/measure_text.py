"""How a measurement reads in a terminal, and its summary as plain values. ms, Mbit/s and % exist only here."""

from __future__ import annotations

from collections.abc import Sequence

import click

from app.hop_sheets import why_it_ends
from app.output import table
from app.serving_text import serving_summary, show_serving
from app.stamp_text import show_stamp, show_stamps, stamp_summary
from app.throughput_text import show_throughput, throughput_summary
from records.batch import Line
from records.claims import ServingResult
from records.measurement import Hop, HttpResult, InferenceResult, PingResult, PingSample, ThroughputResult, TracerouteResult
from records.stamp import StampResult
from records.statistics import jitter_rfc3550_ns, loss_ratio, percentile_ns
from records.units import ms

__all__ = ["is_answered", "show", "show_together", "summary_of", "unresolved"]


def is_answered(line: Line) -> bool:
    """Whether the target gave what was asked for: a reply, its own hop, a rate, a token."""
    if isinstance(line, PingResult | StampResult):
        return any(sample.outcome == "reply" for sample in line.samples)
    if isinstance(line, TracerouteResult):
        return line.reached
    if isinstance(line, ThroughputResult):
        return line.throughput_bps is not None
    return isinstance(line, InferenceResult | HttpResult | ServingResult) and line.outcome == "ok"


def unresolved(line: Line) -> str | None:
    """The target's name when it has no address; None otherwise."""
    if isinstance(line, PingResult | StampResult):
        errors = [sample.error or "" for sample in line.samples]
        return line.target if errors and all(error.startswith("EAI_") for error in errors) else None
    if isinstance(line, TracerouteResult):
        return line.target if (line.error or "").startswith("EAI_") else None
    if isinstance(line, HttpResult) and line.outcome == "no_such_name":
        return line.target
    return None


def summary_of(line: Line) -> dict[str, object]:
    """What a person would read off a measurement, as values for JSON; unknown is None."""
    if isinstance(line, PingResult):
        return _ping_summary(line)
    if isinstance(line, TracerouteResult):
        answered = [hop for hop in line.hops if hop.address is not None]
        last = line.hops[-1] if line.hops and line.reached else None
        return {
            "reached": line.reached,
            "hops": len(line.hops),
            "silent_hops": len(line.hops) - len(answered),
            "rtt_ms": None if last is None else ms(last.rtt_ns),
            "error": line.error,
        }
    if isinstance(line, ThroughputResult):
        return throughput_summary(line)
    if isinstance(line, HttpResult):
        return _http_summary(line)
    if isinstance(line, StampResult):
        return stamp_summary(line)
    if isinstance(line, ServingResult):
        return serving_summary(line)
    assert isinstance(line, InferenceResult)
    return {
        "outcome": line.outcome,
        "ttft_ms": ms(line.ttft_ns),
        "e2e_ms": ms(line.e2e_ns),
        "network_rtt_ms": ms(line.tcp_min_rtt_ns),
        "machine_ms": ms(_machine_ns(line)),
        "gap_ms": {
            "p50": ms(percentile_ns(line.token_gaps_ns, 0.5)),
            "p95": ms(percentile_ns(line.token_gaps_ns, 0.95)),
            "max": ms(max(line.token_gaps_ns, default=None)),
        },
        "tokens_per_s": _tokens_per_s(line),
        "is_streamed": line.is_streamed,
        "finish_reason": line.finish_reason,
        "tpot_ms": ms(percentile_ns(line.token_gaps_ns, 0.5)),
        "output_tokens": line.output_tokens,
    }


def _http_summary(line: HttpResult) -> dict[str, object]:
    return {
        "outcome": line.outcome,
        "failed_phase": line.failed_phase,
        "failure_source": line.failure_source,
        "address": line.address,
        "rtt_ms": ms(line.tcp_rtt_ns),
        "dns_ms": ms(line.dns_ns),
        "connect_ms": ms(line.tcp_ns),
        "tls_ms": ms(line.tls_ns),
        "tls_version": line.tls_version,
        "tls_resumed": line.tls_resumed,
        "tls_verified": line.tls_verified,
        "http_status": line.http_status,
        "ttfb_ms": ms(line.ttfb_ns),
        "last_byte_ms": ms(line.e2e_ns),
        "total_ms": ms(line.total_ns),
    }


def _ping_summary(line: PingResult) -> dict[str, object]:
    rtts_ns = [sample.rtt_ns for sample in line.samples]
    known = [rtt for rtt in rtts_ns if rtt is not None]
    sent = sum(sample.outcome != "send_failed" for sample in line.samples)
    return {
        "sent": sent,
        "received": len(known),
        "send_failed": len(rtts_ns) - sent,
        "loss_ratio": loss_ratio(sent, sent - len(known)),
        "duplicates": sum(sample.duplicates for sample in line.samples),
        "late": sum(sample.late for sample in line.samples),
        "rtt_ms": {
            "min": ms(min(known, default=None)),
            "median": ms(percentile_ns(known, 0.5)),
            "p95": ms(percentile_ns(known, 0.95)),
            "max": ms(max(known, default=None)),
        },
        "jitter_ms": ms(jitter_rfc3550_ns(rtts_ns)),
        "ts_sources": sorted({sample.ts_source for sample in line.samples if sample.ts_source is not None}),
        "flow": line.flow,
    }


def show_together(lines: Sequence[Line]) -> None:
    """One table of what was measured at the same time: connections, or STAMP rounds."""
    if rounds := [line for line in lines if isinstance(line, StampResult)]:
        show_stamps(rounds)
        return
    rows = [
        [
            line.target,
            ms(line.tcp_rtt_ns),
            ms(line.dns_ns),
            ms(line.tls_ns),
            line.tls_resumed,
            ms(line.ttfb_ns),
            line.http_status,
            line.outcome if line.outcome == "ok" else f"{line.outcome} ({line.failure_source})",
        ]
        for line in lines
        if isinstance(line, HttpResult)
    ]
    click.echo()
    table(["target", "rtt ms", "dns ms", "tls ms", "resumed", "first byte ms", "status", "outcome"], rows)


def show(line: Line) -> None:
    """Print one measurement for a person."""
    if isinstance(line, PingResult):
        _show_ping(line)
    elif isinstance(line, TracerouteResult):
        _show_traceroute(line)
    elif isinstance(line, ThroughputResult):
        show_throughput(line)
    elif isinstance(line, InferenceResult):
        _show_inference(line)
    elif isinstance(line, ServingResult):
        show_serving(line)
    elif isinstance(line, HttpResult):
        _show_http(line)
    elif isinstance(line, StampResult):
        show_stamp(line)


def _ms(value_ns: float | None) -> str:
    value = ms(value_ns)
    return "-" if value is None else f"{value:.3f}"


def _show_ping(line: PingResult) -> None:
    size = "" if line.payload_bytes is None else f", {line.payload_bytes} bytes"
    flow = "" if line.flow is None else f", flow {line.flow}"
    click.echo(f"{line.target}: {line.method}{size}{flow}, {line.engine}")
    for sample in line.samples:
        click.echo(f"  #{sample.sequence:<3} {_sample(sample)}")
    known = [sample.rtt_ns for sample in line.samples if sample.rtt_ns is not None]
    sent = sum(sample.outcome != "send_failed" for sample in line.samples)
    loss = loss_ratio(sent, sent - len(known))
    extra = [
        f"{count} {what}"
        for what, count in (
            ("duplicates", sum(sample.duplicates for sample in line.samples)),
            ("late", sum(sample.late for sample in line.samples)),
            ("not sent", len(line.samples) - sent),
        )
        if count
    ]
    click.echo(
        f"  {sent} sent, {len(known)} received, loss {'-' if loss is None else f'{loss:.1%}'}" + "".join(f", {part}" for part in extra)
    )
    if known:
        jitter = jitter_rfc3550_ns([sample.rtt_ns for sample in line.samples])
        sources = ", ".join(sorted({sample.ts_source for sample in line.samples if sample.ts_source is not None}))
        click.echo(
            f"  RTT min {_ms(min(known))}  median {_ms(percentile_ns(known, 0.5))}  p95 {_ms(percentile_ns(known, 0.95))}  "
            f"max {_ms(max(known))} ms{'' if jitter is None else f'  jitter {_ms(jitter)} ms'}; timed by {sources}"
        )


def _sample(sample: PingSample) -> str:
    if sample.outcome == "reply":
        ttl = "" if sample.reply_ttl is None else f"  ttl {sample.reply_ttl}"
        return f"{_ms(sample.rtt_ns)} ms{ttl}"
    if sample.outcome == "unreachable":
        return f"unreachable: ICMP type {sample.icmp_type} code {sample.icmp_code} from {sample.responder or 'an unknown router'}"
    if sample.outcome == "send_failed":
        return f"not sent: {sample.error or 'unknown error'}"
    return "no reply" + (" in time" if sample.late else "")


def _show_traceroute(line: TracerouteResult) -> None:
    click.echo(f"{line.target}: {line.protocol}, flow {line.flow}, {line.engine}")
    rows = [[hop.ttl, hop.address or "(silent)", _ms(hop.rtt_ns), f"{hop.replies}/{hop.probes}", _labels(hop)] for hop in line.hops]
    if rows:
        table(["hop", "address", "rtt ms", "replies", "mpls"], rows)
    click.echo("  reached" if line.reached else "  not reached")
    if (why := why_it_ends(line)) is not None:
        click.echo(f"  {why}")


def _labels(hop: Hop) -> str:
    return " ".join(str(entry.label) for entry in hop.mpls)


def _machine_ns(line: InferenceResult) -> int | None:
    """What of the TTFT was not the one round trip that a request and its first token take."""
    return None if line.ttft_ns is None or line.tcp_min_rtt_ns is None else max(0, line.ttft_ns - line.tcp_min_rtt_ns)


def _tokens_per_s(line: InferenceResult) -> float | None:
    """The rate after the first token; None where they are not known to have come one by one."""
    took_ns = sum(line.token_gaps_ns)
    return None if took_ns == 0 or not line.is_streamed else len(line.token_gaps_ns) * 1e9 / took_ns


_STREAMED = {True: "streamed", False: "not streamed: held back and sent together", None: "streamed or not: not known"}


def _show_inference(line: InferenceResult) -> None:
    spoken = ", ".join(part for part in (line.http_version and f"HTTP/{line.http_version}", line.tls_version) if part)
    click.echo(f"{line.target}: {line.model or 'unknown model'}, {line.connection} connection{spoken and f', {spoken}'}, {line.engine}")
    if line.outcome != "ok":
        wait = "" if line.retry_after_ns is None else f" (asks to wait {line.retry_after_ns // 10**9} s)"
        click.echo(f"  {line.outcome}: {line.error}{wait}")
    phases = [("dns", line.dns_ns), ("tcp", line.tcp_ns), ("tls", line.tls_ns), ("upload", line.upload_ns), ("first byte", line.ttfb_ns)]
    parts = [f"{name} {_ms(value)}" for name, value in phases if value is not None]
    if parts:
        click.echo(f"  {'  '.join(parts)} ms")
    if line.ttft_ns is None:
        return
    kinds = [("reasoning", line.first_reasoning_ns), ("tool call", line.first_tool_call_ns), ("content", line.first_content_ns)]
    first = ", ".join(f"{name} {_ms(value)}" for name, value in kinds if value is not None)
    click.echo(
        f"  TTFT {_ms(line.ttft_ns)} ms = network {_ms(line.tcp_min_rtt_ns)} + machine {_ms(_machine_ns(line))}  "
        f"(first {first})  E2E {_ms(line.e2e_ns)} ms"
    )
    gaps, rate = line.token_gaps_ns, _tokens_per_s(line)
    spread = [("p50", percentile_ns(gaps, 0.5)), ("p95", percentile_ns(gaps, 0.95)), ("max", max(gaps, default=None))]
    click.echo(
        f"  {line.output_tokens} tokens"
        + (f", {rate:.1f} a second" if rate is not None else "")
        + (f", apart {'  '.join(f'{name} {_ms(value)}' for name, value in spread)} ms" if gaps else "")
        + f"; {_STREAMED[line.is_streamed]}"
        + (f"; ended by {line.finish_reason}" if line.finish_reason else "")
    )


def _show_http(line: HttpResult) -> None:
    at = "" if line.address is None else f" at {line.address}"
    resumed = {None: "", True: ", TLS resumed", False: ", TLS session not taken"}[line.tls_resumed]
    click.echo(f"{line.target}{at}{resumed}")
    if line.outcome != "ok":
        click.echo(f"  {line.outcome} ({line.failure_source}): {line.error}")
    phases = [
        ("dns", line.dns_ns),
        ("connect", line.tcp_ns),
        ("tls", line.tls_ns),
        ("first byte", line.ttfb_ns),
        ("last byte", line.e2e_ns),
    ]
    parts = [f"{name} {_ms(value)}" for name, value in phases if value is not None]
    if line.tcp_rtt_ns is not None:
        parts.insert(0, f"RTT {_ms(line.tcp_rtt_ns)}")
    if parts:
        click.echo(f"  {'  '.join(parts)} ms")
    notes = [part for part in (line.tls_version, line.tls_cipher, line.tls_alpn) if part is not None]
    if line.tls_verified is False:
        notes.append(f"certificate not accepted: {line.tls_error}")
    if line.http_status is not None:
        notes.append(f"HTTP {line.http_status}, {line.response_bytes} bytes{' (cut off)' if line.is_cut_off else ''}")
    if line.tcp_retransmits:
        notes.append(f"{line.tcp_retransmits} segments sent again before the connection stood")
    if notes:
        click.echo(f"  {', '.join(notes)}")
