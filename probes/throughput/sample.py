"""A rate from a short transfer: read off the sender's congestion control as soon as it has found the bottleneck, then stop.

BBR doubles its rate every round trip until the delivery rate grows no more, and keeps the greatest rate that was delivered
(TCP_CC_INFO). So the rate stands after some ten round trips, and nothing more need be sent. Without BBR it is the kernel's
delivery rate (TCP_INFO) where the path and not the program was its limit, the greatest of the last round trips.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from probes.tcp_info import read_bbr_info, read_tcp_info
from probes.throughput.wire import Estimated

__all__ = ["Plateau", "Sampled", "send_sample"]

_BLOCK = os.urandom(128 * 1024)  # random, so that nothing on the way can compress it
_NOTSENT_LOWAT_BYTES = 128 * 1024
_LOOK_EVERY_NS = 2_000_000
_FIRST_WAIT_S = 0.05
#: It grows no more when it is at most so much greater than it was two round trips (and at least so long) ago, and when that share of
#: it was delivered meanwhile: a host that slept for a while has learned nothing.
_GROWTH = 1.02
_DELIVERED = 0.8
_ROUND_TRIPS = 2
_LEAST_WAIT_NS = 25_000_000


@dataclass(frozen=True, slots=True)
class Sampled:
    """What a sample gave. rate_bps None: nothing was read; is_settled: it grew no more when the sample ended, else it is a lower bound."""

    sent_bytes: int
    rate_bps: int | None
    method: Estimated
    is_settled: bool
    rtts_ns: tuple[int, ...] = ()


class Plateau:
    """Tells when a rate that is looked at again and again has stopped to grow. Pure: time is an argument."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, int, int]] = deque()

    def add(self, now_ns: int, rate_bps: int, rtt_ns: int, acked_bytes: int) -> bool:
        """One more look; True when the rate is about what it was two round trips ago, and was kept up since."""
        self._seen.append((now_ns, rate_bps, acked_bytes))
        back_ns = now_ns - max(_LEAST_WAIT_NS, _ROUND_TRIPS * rtt_ns)
        while len(self._seen) > 1 and self._seen[1][0] <= back_ns:
            self._seen.popleft()
        then_ns, then_bps, then_bytes = self._seen[0]
        delivered_bps = (acked_bytes - then_bytes) * 8e9 / max(1, now_ns - then_ns)
        return then_ns <= back_ns and rate_bps <= then_bps * _GROWTH and delivered_bps >= rate_bps * _DELIVERED


class _Reading:
    """What the kernel has said of the rate so far."""

    def __init__(self) -> None:
        self.method: Estimated = "delivery_rate"
        self.rates: deque[int] = deque(maxlen=64)
        self.rtts_ns: list[int] = []
        self._plateau = Plateau()

    def look(self, sock: socket.socket, now_ns: int) -> bool:
        """Read once more; True when the rate stands."""
        info, bbr = read_tcp_info(sock), read_bbr_info(sock)
        rtt_ns = info.min_rtt_ns or info.rtt_ns or 0
        if info.rtt_ns is not None:
            self.rtts_ns.append(info.rtt_ns)
        if bbr is not None:
            self.method = "bbr"
            self.rates.append(bbr.bandwidth_bps)
        elif info.delivery_rate_bps is not None and not info.is_app_limited:
            self.rates.append(info.delivery_rate_bps)
        if info.is_app_limited or not self.rates:  # this host was the limit just now, and says nothing of the path's
            return False
        rate = self.rates[-1] if bbr is not None else max(self.rates)
        return self._plateau.add(now_ns, rate, rtt_ns, info.acked_bytes or 0)


async def send_sample(sock: socket.socket, duration_ms: int, max_bytes: int, spend: Callable[[int], None] | None = None) -> Sampled:
    """Send until the rate is known, or for that long or that many bytes; `spend` is told of them as they go."""
    loop = asyncio.get_running_loop()
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _NOTSENT_LOWAT_BYTES)
    writable = asyncio.Event()
    reading, block = _Reading(), memoryview(_BLOCK)
    begun_ns = looked_ns = time.monotonic_ns()
    sent, is_settled = 0, False
    loop.add_writer(sock, writable.set)
    try:
        while not is_settled and sent < max_bytes and (now_ns := time.monotonic_ns()) - begun_ns < duration_ms * 1_000_000:
            try:
                done = sock.send(block[: min(len(block), max_bytes - sent)])
            except BlockingIOError:
                writable.clear()
                try:
                    async with asyncio.timeout(_LOOK_EVERY_NS / 1e9):
                        await writable.wait()
                except TimeoutError:
                    pass
            else:
                sent += done
                if spend is not None:
                    spend(done)
                await asyncio.sleep(0)  # the agent's other work goes on
            if now_ns - looked_ns < _LOOK_EVERY_NS:
                continue
            looked_ns = now_ns
            is_settled = reading.look(sock, now_ns)
    finally:
        loop.remove_writer(sock)
    if not is_settled:
        is_settled = reading.look(sock, time.monotonic_ns())
    if not reading.rates:  # all was handed over before the first of it was acknowledged
        await asyncio.sleep(_FIRST_WAIT_S)
        reading.look(sock, time.monotonic_ns())
    rates = reading.rates
    rate = None if not rates else rates[-1] if reading.method == "bbr" else max(rates)
    return Sampled(sent, rate, reading.method, is_settled, tuple(reading.rtts_ns))
