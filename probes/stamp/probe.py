"""The STAMP probe type: a round of test packets to a target's reflector, as one measurement."""

from __future__ import annotations

import time

from probes.model import Target, Vantage
from probes.stamp.config import StampConfig, read_key
from probes.stamp.engine import StampEngine
from records.batch import Line
from records.errors import ConfigError
from records.stamp import StampResult
from records.units import MS

__all__ = ["StampProbe"]


class StampProbe:
    """The stamp probe type; see probes.model.ProbeType. Rounds of many targets may run at once."""

    name = "stamp"

    def __init__(self, config: StampConfig) -> None:
        self.config = config
        self._engine: StampEngine | None = None

    async def open(self) -> None:
        """Open the sockets. Raises ConfigError when the key cannot be read."""
        config = self.config
        key = read_key(config.key_file) if config.key_file else None
        self._engine = StampEngine(key=key, clock_error_ns=round(config.clock_error_us * 1000) or None)
        await self._engine.open()

    async def once(self, target: Target, vantage: Vantage) -> tuple[Line, ...]:
        """One round. Raises ConfigError for a target without a reflector."""
        engine, config = self._engine, self.config
        if engine is None:
            raise RuntimeError("open() the probe before it measures")
        port = target.stamp_port
        if port is None:
            raise ConfigError(f"site {target.site!r} has no stamp_port; give it the UDP port of its STAMP reflector, such as 862")
        packet_bytes = config.packet_bytes or config.base_bytes
        timeout_ns = round(config.timeout_ms * MS)
        started_at_ns = time.time_ns()
        made = await engine.measure(
            target.address,
            port,
            count=config.count,
            interval_ns=round(config.interval_ms * MS),
            timeout_ns=timeout_ns,
            packet_bytes=packet_bytes,
            reflector=config.kind,
        )
        place = f"[{target.address}]:{port}" if ":" in target.address else f"{target.address}:{port}"
        return (
            StampResult(
                **vantage.header(target, measured=place, started_at_ns=started_at_ns, engine=engine.name),
                mode="authenticated" if config.key_file else "unauthenticated",
                reflector=made.reflector,
                timeout_ns=timeout_ns,
                packet_bytes=packet_bytes,
                samples=made.samples,
                forward_lost=made.lost.forward,
                backward_lost=made.lost.backward,
                undirected_lost=made.lost.undirected,
                clock_error_ns=made.clock_error_ns,
                unverified=made.unverified,
            ),
        )

    async def close(self) -> None:
        """Close the sockets."""
        if self._engine is not None:
            await self._engine.close()
            self._engine = None
