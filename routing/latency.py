"""The parts of a request's latency, each its own pure function; times in ns, as floats or arrays of draws.

::

    TTFT = connect + upload + relay + queue + prefill + network
    E2E  = TTFT + decode

The network is paid once and not per token: tokens follow each other down the same pipe. `upload` holds the way there
and `network` the way back, so together with `relay` they are one round trip and the transfer of the request. Where RTT
is an array, element i is one request: the same draw goes into every part.

Not in the sum: name resolution, authentication, loading a model that was scaled to zero, jitter between tokens.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from records.units import SECOND
from routing.handshakes import HANDSHAKE_ROUND_TRIPS, Connection

__all__ = [
    "HANDSHAKE_ROUND_TRIPS",
    "INITIAL_WINDOW_SEGMENTS",
    "MSS_BYTES",
    "Connection",
    "connect_ns",
    "decode_ns",
    "fair_share_bps",
    "loss_limited_rate_bps",
    "network_ns",
    "prefill_ns",
    "relay_ns",
    "transfer_ns",
    "upload_ns",
]

T = TypeVar("T", float, NDArray[np.float64])

#: Payload of a full segment on Ethernet's 1500-byte MTU, IPv4 and TCP without options.
MSS_BYTES = 1460
#: Initial congestion window, RFC 6928. An idle pooled connection starts there again (RFC 9293 3.8.6, RFC 2861).
INITIAL_WINDOW_SEGMENTS = 10
#: Mathis's constant without delayed acknowledgements, sqrt(3/2).
_MATHIS_C = math.sqrt(1.5)


def connect_ns(rtt_ns: T, connection: Connection) -> T:
    """Hand-shakes on the leg(s) that `rtt_ns` crosses: RTT x HANDSHAKE_ROUND_TRIPS.

    >>> connect_ns(50e6, "cold"), connect_ns(50e6, "warm")
    (100000000.0, 0.0)
    """
    return rtt_ns * HANDSHAKE_ROUND_TRIPS[connection]


def loss_limited_rate_bps(rtt_ns: T, loss_ratio: float | None) -> T:
    """The most that loss lets a Reno flow carry: MSS / RTT x C / sqrt(p), bits per second; inf without loss.

    Mathis, Semke, Mahdavi, Ott: "The macroscopic behavior of the TCP congestion avoidance algorithm", CCR 1997.
    CUBIC and BBR exceed it, hence a cap beside a measurement and never instead of one. An unknown loss caps nothing.
    """
    if not loss_ratio:
        return rtt_ns * 0 + math.inf
    bits_per_rtt: float = MSS_BYTES * 8 * _MATHIS_C / math.sqrt(loss_ratio)
    return bits_per_rtt * SECOND / rtt_ns


def fair_share_bps(capacity_bps: float, flows: int) -> float:
    """What one of `flows` equal flows gets of a line: capacity / flows. Raises ValueError without a line or a flow.

    >>> fair_share_bps(10e9, 1000)
    10000000.0
    """
    if not capacity_bps > 0 or flows < 1:
        raise ValueError(f"a share needs a rate above 0 and a flow; got {capacity_bps} bit/s, {flows} flows")
    return capacity_bps / flows


def transfer_ns(
    size_bytes: int,
    rtt_ns: T,
    *,
    throughput_bps: float | None = None,
    loss_ratio: float | None = None,
    share_bps: float | None = None,
) -> T:
    """What a payload takes beyond the one-way delay of its last byte: slow start, then the least of the known rates.

    Round i of slow start sends 10 x 2^i segments and waits one RTT. It ends when the rest fits into a window: that
    leaves at the line's rate, the lesser of the measured throughput and the fair share `share_bps`; or when the
    window fills the pipe (window >= rate x RTT): the rest then leaves at the least of the line's rate and
    loss_limited_rate_bps. A rate that is not known limits nothing. QUIC starts with the same window (RFC 9002 7.2).

    >>> transfer_ns(20_000, 150e6) / 1e6  # 14 segments: a window of 10, one RTT of waiting, the rest
    150.0
    """
    throughput = min((rate for rate in (throughput_bps, share_bps) if rate is not None), default=math.inf)
    if size_bytes <= INITIAL_WINDOW_SEGMENTS * MSS_BYTES and math.isinf(throughput):  # most prompts: nothing to wait for
        return rtt_ns * 0
    if not isinstance(rtt_ns, np.ndarray):
        return _transfer_one_ns(size_bytes, float(rtt_ns), throughput, loss_ratio)
    rtt = np.atleast_1d(np.asarray(rtt_ns, dtype=np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):  # within a site RTT is 0: nothing to wait for, no pipe to fill
        rate = np.minimum(loss_limited_rate_bps(rtt, loss_ratio), throughput)
        pipe_bytes = np.where(np.isinf(rate), np.inf, rate * rtt / (8 * SECOND))
    waited = np.zeros_like(rtt)
    left = float(size_bytes)
    window = float(INITIAL_WINDOW_SEGMENTS * MSS_BYTES)
    done = np.zeros(rtt.shape, dtype=bool)
    while left > window and not done.all():
        full = ~done & (window >= pipe_bytes)
        waited[full] += left * 8 * SECOND / rate[full]
        done |= full
        waited[~done] += rtt[~done]
        left -= window
        window *= 2
    waited[~done] += left * 8 * SECOND / throughput
    return waited


def _transfer_one_ns(size_bytes: int, rtt_ns: float, throughput_bps: float, loss_ratio: float | None) -> float:
    """transfer_ns of one round-trip time: a break-even asks for hundreds of sizes."""
    rate = min(loss_limited_rate_bps(rtt_ns, loss_ratio) if rtt_ns > 0 else math.inf, throughput_bps)
    pipe_bytes = math.inf if math.isinf(rate) else rate * rtt_ns / (8 * SECOND)
    waited, left, window = 0.0, float(size_bytes), float(INITIAL_WINDOW_SEGMENTS * MSS_BYTES)
    while left > window:
        if window >= pipe_bytes:
            return waited + left * 8 * SECOND / rate
        waited += rtt_ns
        left -= window
        window *= 2
    return waited + left * 8 * SECOND / throughput_bps


def upload_ns(
    size_bytes: int,
    rtt_ns: T,
    *,
    throughput_bps: float | None = None,
    loss_ratio: float | None = None,
    share_bps: float | None = None,
) -> T:
    """The request's way there: RTT / 2 + transfer_ns."""
    return rtt_ns / 2 + transfer_ns(size_bytes, rtt_ns, throughput_bps=throughput_bps, loss_ratio=loss_ratio, share_bps=share_bps)


def relay_ns(relays: int, each_ns: float) -> float:
    """What forwarding at the relays adds to the round trip: relays x each_ns."""
    return relays * each_ns


def prefill_ns(gamma_ns: float, delta_ns: float, input_tokens: int, cache_hit_ratio: float = 0.0) -> float:
    """Reading the prompt: gamma + delta x n_in x (1 - cache hit), cache_hit_ratio 0..1.

    >>> prefill_ns(1e6, 70e3, 1024) / 1e6
    72.68
    """
    return gamma_ns + delta_ns * input_tokens * (1 - cache_hit_ratio)


def network_ns(rtt_ns: T) -> T:
    """The first token's way back: RTT / 2."""
    return rtt_ns / 2


def decode_ns(alpha_ns: float, beta_ns: float, output_tokens: int, batch: float = 1.0) -> float:
    """The tokens after the first: (n_out - 1) x (alpha + beta x batch).

    >>> decode_ns(22e6, 0.3e6, 101, batch=10) / 1e9
    2.5
    """
    return max(0, output_tokens - 1) * (alpha_ns + beta_ns * batch)
