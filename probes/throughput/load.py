"""Latency under load: the RTT before a transfer and during it, by packets beside it, or by the transfer's own connection.

Its ratio says how much the queues on the way hold up everybody else: responsiveness is round trips a minute under load.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal

from probes.ping.engine import PingEngine
from probes.ping.probe import open_best
from records.errors import NotPermitted
from records.statistics import percentile_ns

__all__ = ["LoadMeter", "Loaded"]

_IDLE_COUNT, _IDLE_INTERVAL_NS = 5, 20_000_000
_INTERVAL_S = 0.05
_TIMEOUT_NS = 1_500_000_000
_PAYLOAD_BYTES = 24


@dataclass(frozen=True, slots=True)
class Loaded:
    """RTTs beside a transfer; None where nothing was read."""

    idle_rtt_ns: int | None = None
    loaded_rtt_ns: int | None = None
    loaded_rtt_p95_ns: int | None = None
    source: Literal["ping", "tcp_info"] | None = None

    @classmethod
    def of(cls, idle_ns: Sequence[int], loaded_ns: Sequence[int], source: Literal["ping", "tcp_info"]) -> Loaded:
        """Medians, and the 95th percentile; nothing without a reading of either."""
        if not idle_ns or not loaded_ns:
            return cls()
        return cls(percentile_ns(idle_ns, 0.5), percentile_ns(loaded_ns, 0.5), percentile_ns(loaded_ns, 0.95), source)


class LoadMeter:
    """Pings a target before and during transfers with the kernel's stamps; does nothing where no ICMP socket may be opened."""

    def __init__(self) -> None:
        self._engine: PingEngine | None = None

    async def open(self) -> None:
        """Open the engine, if there is one."""
        with contextlib.suppress(NotPermitted, OSError):
            self._engine = await open_best("icmp")

    async def close(self) -> None:
        """Close it."""
        if self._engine is not None:
            await self._engine.close()
            self._engine = None

    async def idle(self, address: str) -> list[int]:
        """A few RTTs now, ns; none when it does not answer."""
        if self._engine is None:
            return []
        samples = await self._engine.ping(
            address, count=_IDLE_COUNT, interval_ns=_IDLE_INTERVAL_NS, timeout_ns=_TIMEOUT_NS, payload_bytes=_PAYLOAD_BYTES
        )
        return [sample.rtt_ns for sample in samples if sample.rtt_ns is not None]

    @contextlib.asynccontextmanager
    async def during(self, address: str, into: list[int]) -> AsyncIterator[None]:
        """RTTs while the block runs, added to `into`."""
        if self._engine is None:
            yield
            return
        engine = self._engine

        async def one() -> None:
            samples = await engine.ping(address, count=1, interval_ns=0, timeout_ns=_TIMEOUT_NS, payload_bytes=_PAYLOAD_BYTES)
            into.extend(sample.rtt_ns for sample in samples if sample.rtt_ns is not None)

        async def all_along() -> None:
            async with asyncio.TaskGroup() as group:
                while True:
                    group.create_task(one())
                    await asyncio.sleep(_INTERVAL_S)

        task = asyncio.ensure_future(all_along())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ExceptionGroup):
                await task
