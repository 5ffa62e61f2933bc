"""How a throughput test reads in a terminal, and its summary as plain values."""

from __future__ import annotations

import click

from records.measurement import ThroughputResult
from records.statistics import responsiveness_rpm
from records.units import ms

__all__ = ["show_throughput", "throughput_summary"]

_METHODS = {
    "bbr": "estimate, read from BBR",
    "delivery_rate": "estimate, from the delivery rate",
    "train": "estimate, by UDP packet trains",
    "transfer": "",
}


def throughput_summary(line: ThroughputResult) -> dict[str, object]:
    """What a person would read off a test, as values for JSON; unknown is None."""
    return {
        "direction": line.direction,
        "throughput_mbps": None if line.throughput_bps is None else line.throughput_bps / 1e6,
        "is_estimate": line.is_estimate,
        "method": line.method,
        "transferred_bytes": line.transferred_bytes,
        "spent_bytes": line.spent_bytes,
        "duration_ms": ms(line.duration_ns),
        "rtt_under_load_ms": ms(line.tcp_rtt_ns),
        "min_rtt_ms": ms(line.tcp_min_rtt_ns),
        "idle_rtt_ms": ms(line.idle_rtt_ns),
        "loaded_rtt_ms": ms(line.loaded_rtt_ns),
        "loaded_rtt_p95_ms": ms(line.loaded_rtt_p95_ns),
        "responsiveness_rpm": responsiveness_rpm(line.loaded_rtt_ns),
        "udp_loss_ratio": line.udp_lost_packets / line.udp_packets if line.udp_packets and line.udp_lost_packets is not None else None,
        "udp_jitter_ms": ms(line.udp_jitter_ns),
        "failure_source": line.failure_source,
    }


def show_throughput(line: ThroughputResult) -> None:
    """Print a test for a person."""
    if line.throughput_bps is None:
        what = "skipped" if line.stop_reason == "skipped" else f"failed ({line.failure_source})" if line.failure_source else "failed"
        click.echo(f"{line.target}: {line.direction} {what}: {line.error}")
        return
    assert line.transferred_bytes is not None  # our own tests always say it
    notes = [
        _METHODS[line.method],
        f"{line.transferred_bytes / 1e6:.2f} MB in {ms(line.duration_ns) or 0:.0f} ms",
        f"ended by {line.stop_reason}" if line.method == "transfer" else "",
        f"{line.streams} streams" if line.streams > 1 else "",
        "both directions at once" if line.is_bidirectional else "",
        f"{line.retransmits} retransmitted" if line.retransmits else "",
        line.congestion_control or "",
        line.engine,
    ]
    protocol = " UDP" if line.protocol == "udp" else ""
    sign = "about " if line.is_estimate and line.stop_reason == "time" else "at least " if line.is_estimate else ""
    click.echo(
        f"{line.target}: {line.direction}{protocol} {sign}{line.throughput_bps / 1e6:.2f} Mbit/s  ({', '.join(filter(None, notes))})"
    )
    if line.udp_packets and line.udp_lost_packets is not None:
        click.echo(
            f"  {line.udp_packets} packets, loss {line.udp_lost_packets / line.udp_packets:.2%}, jitter {ms(line.udp_jitter_ns):.3f} ms"
        )
    if line.loaded_rtt_ns is not None:
        by = "pings" if line.rtt_source == "ping" else "the connection"
        click.echo(
            f"  RTT idle {ms(line.idle_rtt_ns):.3f}, under load {ms(line.loaded_rtt_ns):.3f}, p95 {ms(line.loaded_rtt_p95_ns):.3f} ms "
            f"(by {by}); {responsiveness_rpm(line.loaded_rtt_ns)} round trips a minute"
        )
    elif line.tcp_rtt_ns is not None:
        least = ms(line.tcp_min_rtt_ns)
        click.echo(f"  RTT under load {ms(line.tcp_rtt_ns):.3f} ms" + ("" if least is None else f", least {least:.3f} ms"))
