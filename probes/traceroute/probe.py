"""The traceroute probe type: the hops of one flow to a target, as one measurement."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Literal, cast

from probes.model import Target, Vantage
from probes.traceroute.engine import TracerouteEngine
from records.batch import Line
from records.errors import ConfigError
from records.measurement import TracerouteResult, path_hash
from records.units import MS

__all__ = ["TracerouteConfig", "TracerouteProbe"]

PROTOCOLS = ("icmp", "udp")


@dataclass(frozen=True, kw_only=True)
class TracerouteConfig:
    """Settings of the traceroute probe type.

    max_ttl         hops tried at most
    timeout_ms      an answer later than this does not count
    attempts        probe packets per hop at most; a hop that answers is asked once
    flows           how many flows to take turns with, one per round, so that equal-cost paths show apart
    protocol        icmp (echo requests) or udp
    packets_per_s   the most that is sent, over all targets
    """

    max_ttl: int = 30
    timeout_ms: float = 1000
    attempts: int = 2
    flows: int = 1
    protocol: str = "icmp"
    packets_per_s: int = 1000

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ConfigError(f"traceroute.protocol is {self.protocol!r}; choose one of {', '.join(PROTOCOLS)}")
        limits = {"max_ttl": (1, 64), "timeout_ms": (10, 30_000), "attempts": (1, 10), "flows": (1, 256), "packets_per_s": (1, 20_000)}
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            allowed = int | float if name == "timeout_ms" else int
            if isinstance(value, bool) or not isinstance(value, allowed) or not low <= value <= high:
                kind = "number" if name == "timeout_ms" else "whole number"
                raise ConfigError(f"traceroute.{name} is {value!r}; give a {kind} from {low} to {high}")


class TracerouteProbe:
    """The traceroute probe type; see probes.model.ProbeType. Traces of many targets may run at once."""

    name = "traceroute"

    def __init__(self, config: TracerouteConfig) -> None:
        self.config = config
        self._engine: TracerouteEngine | None = None
        self._rounds: defaultdict[str, int] = defaultdict(int)

    @property
    def why(self) -> str:
        """Which sockets the engine has; empty before `open`."""
        return "" if self._engine is None else self._engine.why

    async def open(self) -> None:
        """Open the engine. Raises NotPermitted, saying what to grant."""
        protocol = cast("Literal['icmp', 'udp']", self.config.protocol)
        engine = TracerouteEngine(protocol, packets_per_s=self.config.packets_per_s)
        await engine.open()
        self._engine = engine

    async def once(self, target: Target, vantage: Vantage) -> tuple[Line, ...]:
        """One trace of the flow whose turn it is. A target that cannot be reached gives its hops, or none."""
        engine, config = self._engine, self.config
        if engine is None:
            raise RuntimeError("open() the probe before it measures")
        flow = self._rounds[target.address] % config.flows
        self._rounds[target.address] += 1
        started_at_ns = time.time_ns()
        found = await engine.trace(
            target.address, max_ttl=config.max_ttl, timeout_ns=round(config.timeout_ms * MS), attempts=config.attempts, flow=flow
        )
        header = vantage.header(target, measured=target.address, started_at_ns=started_at_ns, engine=engine.name)
        return (
            TracerouteResult(
                **header,
                protocol=engine.protocol,
                flow=flow,
                hops=found.hops,
                reached=found.reached,
                path_hash=path_hash(hop.address for hop in found.hops),
            ),
        )

    async def close(self) -> None:
        """Close the engine."""
        if self._engine is not None:
            await self._engine.close()
            self._engine = None
