"""The traceroute probe type: the hops of each of some flows to a target, a measurement each, all traced at once."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from probes.model import Header, Target, TraceUnderWay, Vantage
from probes.traceroute.engine import DEFAULT_PORT, Protocol, TraceOutcome, TracerouteEngine
from records.errors import ConfigError
from records.units import MS

if TYPE_CHECKING:
    from records.batch import Line
    from records.measurement import TracerouteResult

__all__ = ["TracerouteConfig", "TracerouteProbe"]

PROTOCOLS = ("icmp", "udp", "tcp")


@dataclass(frozen=True, kw_only=True)
class TracerouteConfig:
    """Settings of the traceroute probe type.

    max_ttl         hops tried at most
    timeout_ms      an answer later than this does not count
    attempts        probe packets to a silent hop; one that answers is asked once, and one that answers other traces, but
                    lost this one's packets to its limit, some times more
    flows           how many flows there are to each target, so that equal-cost paths show apart
    flows_at_once   how many of them a round traces, all at once; the next round takes the next ones
    protocol        icmp (echo requests), udp or tcp (SYN; needs CAP_NET_RAW)
    port            where SYNs go
    packets_per_s   the most that is sent, over all targets
    """

    max_ttl: int = 30
    timeout_ms: float = 1000
    attempts: int = 2
    flows: int = 1
    flows_at_once: int = 1
    protocol: str = "icmp"
    port: int = DEFAULT_PORT
    packets_per_s: int = 1000

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ConfigError(f"traceroute.protocol is {self.protocol!r}; choose one of {', '.join(PROTOCOLS)}")
        limits = {
            "max_ttl": (1, 64),
            "timeout_ms": (10, 30_000),
            "attempts": (1, 10),
            "flows": (1, 256),
            "flows_at_once": (1, 64),
            "port": (1, 65_535),
            "packets_per_s": (1, 20_000),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            allowed = int | float if name == "timeout_ms" else int
            if isinstance(value, bool) or not isinstance(value, allowed) or not low <= value <= high:
                kind = "number" if name == "timeout_ms" else "whole number"
                raise ConfigError(f"traceroute.{name} is {value!r}; give a {kind} from {low} to {high}")
        if self.flows_at_once > self.flows:
            raise ConfigError(f"traceroute.flows_at_once is {self.flows_at_once}; give at most traceroute.flows, which is {self.flows}")


class TracerouteProbe:
    """The traceroute probe type; see probes.model.ProbeType. Traces of many targets may run at once."""

    name = "traceroute"

    def __init__(self, config: TracerouteConfig, *, pcap: Path | None = None) -> None:
        self.config = config
        self._pcap = pcap
        self._engine: TracerouteEngine | None = None
        self._rounds: defaultdict[str, int] = defaultdict(int)
        #: Packets kept in the file of `pcap`, and those the kernel dropped before they could be; known when it is closed.
        self.evidence_count = self.evidence_lost = 0

    @property
    def why(self) -> str:
        """Which sockets the engine has; empty before `open`."""
        return "" if self._engine is None else self._engine.why

    async def open(self) -> None:
        """Open the engine. Raises NotPermitted, saying what to grant, and what Evidence raises."""
        config = self.config
        protocol = cast("Protocol", config.protocol)
        engine = TracerouteEngine(protocol, packets_per_s=config.packets_per_s, port=config.port, pcap=self._pcap)
        await engine.open()
        self._engine = engine

    async def once(self, target: Target, vantage: Vantage) -> tuple[Line, ...]:
        """One trace of each flow whose turn it is; all began together. A target that cannot be reached gives its hops, or none."""
        engine, config = self._engine, self.config
        if engine is None:
            raise RuntimeError("open() the probe before it measures")
        first = self._rounds[target.address]
        flows = [(first + n) % config.flows for n in range(config.flows_at_once)]
        self._rounds[target.address] = (first + config.flows_at_once) % config.flows
        started_at_ns = time.time_ns()
        found = await asyncio.gather(
            *(
                engine.trace(
                    target.address, max_ttl=config.max_ttl, timeout_ns=round(config.timeout_ms * MS), attempts=config.attempts, flow=flow
                )
                for flow in flows
            )
        )
        results = []
        for flow, one in zip(flows, found, strict=True):
            header = vantage.header(target, measured=target.address, started_at_ns=started_at_ns, engine=engine.name)
            results.append(_result(header, engine.protocol, flow, one))
        return tuple(results)

    def under_way(self) -> list[TraceUnderWay]:
        """See probes.model.Watchable."""
        return [] if self._engine is None else self._engine.under_way()

    async def close(self) -> None:
        """Close the engine. Raises OutsideError when the evidence is not whole."""
        engine, self._engine = self._engine, None
        if engine is not None:
            evidence = engine.evidence
            try:
                await engine.close()
            finally:
                if evidence is not None:
                    self.evidence_count, self.evidence_lost = evidence.written, evidence.lost


def _result(header: Header, protocol: Protocol, flow: int, found: TraceOutcome) -> TracerouteResult:
    # Only here: this takes as long to import as the engine does, and the first packets need not wait for it.
    from records.measurement import TracerouteResult, path_hash

    addresses = path_hash(hop.address for hop in found.hops)
    return TracerouteResult(
        **header, protocol=protocol, flow=flow, hops=found.hops, reached=found.reached, path_hash=addresses, error=found.error
    )
