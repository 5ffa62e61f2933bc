"""The STAMP probe type: a round of test packets to a target's reflector, as one measurement."""

from __future__ import annotations

import time

from probes.model import RoundUnderWay, Target, Vantage
from probes.stamp.config import StampConfig, read_key
from probes.stamp.engine import StampEngine, StampRound
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
        started_at_ns = time.time_ns()
        made = await engine.measure(
            target.address,
            port,
            count=config.count,
            interval_ns=round(config.interval_ms * MS),
            timeout_ns=round(config.timeout_ms * MS),
            packet_bytes=self._packet_bytes,
            reflector=config.kind,
        )
        return (self._result(target, vantage, made, started_at_ns),)

    def under_way(self) -> list[RoundUnderWay]:
        """See probes.model.Watchable."""
        return [] if self._engine is None else [self._so_far(host, made) for host, made in self._engine.rounds_so_far(self.config.kind)]

    def _so_far(self, host: str, made: StampRound) -> RoundUnderWay:
        return RoundUnderWay(host, made.samples, lambda target, vantage: self._result(target, vantage, made, made.samples[0].sent_at_ns))

    @property
    def _packet_bytes(self) -> int:
        return self.config.packet_bytes or self.config.base_bytes

    def _result(self, target: Target, vantage: Vantage, made: StampRound, started_at_ns: int) -> StampResult:
        config = self.config
        place = f"[{target.address}]:{target.stamp_port}" if ":" in target.address else f"{target.address}:{target.stamp_port}"
        return StampResult(
            **vantage.header(target, measured=place, started_at_ns=started_at_ns, engine=StampEngine.name),
            mode="authenticated" if config.key_file else "unauthenticated",
            reflector=made.reflector,
            timeout_ns=round(config.timeout_ms * MS),
            packet_bytes=self._packet_bytes,
            samples=made.samples,
            forward_lost=made.lost.forward,
            backward_lost=made.lost.backward,
            undirected_lost=made.lost.undirected,
            clock_error_ns=made.clock_error_ns,
            unverified=made.unverified,
        )

    async def close(self) -> None:
        """Close the sockets."""
        if self._engine is not None:
            await self._engine.close()
            self._engine = None
