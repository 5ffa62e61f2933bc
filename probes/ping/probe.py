"""The ping probe type: a round of probe packets to a target, as one measurement."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from probes.model import Header, RoundUnderWay, Target, Vantage
from probes.ping.engine import PingEngine
from probes.ping.icmp import IcmpEngine
from probes.ping.packet import Round
from probes.ping.portable import IcmplibEngine
from probes.ping.udp import UdpEchoEngine
from probes.ping.udp_wire import HEADER_BYTES
from probes.ping.wire import FLOWS, MIN_PAYLOAD_BYTES
from records.batch import Line
from records.errors import ConfigError, NotPermitted
from records.measurement import PingResult, PingSample
from records.units import MS

__all__ = ["ENGINES", "PingConfig", "PingProbe", "open_best"]

log = logging.getLogger(__name__)

#: What `PingConfig.engine` may name; "auto" takes the first that opens, in this order, UDP left out.
ENGINES: dict[str, Callable[[], PingEngine]] = {"icmp": IcmpEngine, "icmplib": IcmplibEngine, "udp": UdpEchoEngine}
_AUTO = ("icmp", "icmplib")


@dataclass(frozen=True, kw_only=True)
class PingConfig:
    """Settings of the ping probe type.

    engine         auto, icmp (own; kernel timestamps), icmplib (portable) or udp (own echo to the target's reflector)
    count          probe packets per round
    interval_ms    from one to the next
    timeout_ms     a reply later than this counts as lost
    payload_bytes  octets after the ICMP or UDP header
    flows          how many flows to each target; every round takes the next. 1: all packets of all rounds look alike to routers
                   that choose among equal paths, and so take one path
    """

    engine: str = "auto"
    count: int = 5
    interval_ms: float = 100
    timeout_ms: float = 2000
    payload_bytes: int = 56
    flows: int = 1

    def __post_init__(self) -> None:
        if self.engine not in {"auto", *ENGINES}:
            raise ConfigError(f"ping.engine is {self.engine!r}; choose one of auto, {', '.join(ENGINES)}")
        least_bytes = HEADER_BYTES if self.engine == "udp" else MIN_PAYLOAD_BYTES
        limits = {"count": (1, 1000), "interval_ms": (1, 60_000), "timeout_ms": (1, 60_000), "payload_bytes": (least_bytes, 8972)}
        limits["flows"] = (1, FLOWS)
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ConfigError(f"ping.{name} is {value!r}; give a number from {low} to {high}")
        for name in ("count", "payload_bytes", "flows"):
            if not isinstance(getattr(self, name), int):
                raise ConfigError(f"ping.{name} is {getattr(self, name)!r}; give a whole number")
        if self.flows > 1 and self.engine not in {"auto", "icmp"}:
            raise ConfigError(f"ping.flows is {self.flows}, and ping.engine {self.engine!r} has one flow; set it to 'icmp' or 'auto'")


async def open_best(prefer: str | None = None) -> PingEngine:
    """An opened engine; its `why` says which it is.

    prefer   a name of ENGINES; None or "auto": ours, or icmplib where ours cannot run

    Raises ConfigError for an unknown name, NotPermitted (saying what to grant) when none may open its sockets.
    """
    if prefer in {None, "auto"}:
        names: tuple[str, ...] = _AUTO
    elif prefer in ENGINES:
        names = (prefer,)
    else:
        raise ConfigError(f"there is no ping engine {prefer!r}; choose one of auto, {', '.join(ENGINES)}")
    refusal: NotPermitted | None = None
    for name in names:
        engine = ENGINES[name]()
        try:
            await engine.open()
        except NotPermitted as denied:
            refusal = refusal or denied
        except OSError as missing:
            log.info("ping engine %s does not run here: %s", name, missing)
        else:
            log.info("ping uses %s", engine.why)
            return engine
    raise refusal or NotPermitted(f"no ping engine runs here (tried {', '.join(names)}); this system gives no ICMP sockets")


class PingProbe:
    """The ping probe type; see probes.model.ProbeType. Rounds of many targets may run at once and overlap."""

    name = "ping"

    def __init__(self, config: PingConfig) -> None:
        self.config = config
        self._engine: PingEngine | None = None
        # Rounds so far by target, where they take turns among flows; bounded by the number of targets.
        self._rounds: Counter[tuple[str, str]] = Counter()

    @property
    def why(self) -> str:
        """Which engine runs and how; empty before `open`."""
        return "" if self._engine is None else self._engine.why

    async def open(self) -> None:
        """Open the engine. Raises NotPermitted, saying what to grant; ConfigError when flows are asked for and it has but one."""
        engine = await open_best(self.config.engine)
        if self.config.flows > engine.flows:
            await engine.close()
            raise ConfigError(f"ping.flows is {self.config.flows}, and {engine.name}, the only engine that runs here, has one flow")
        self._engine = engine

    async def once(self, target: Target, vantage: Vantage) -> tuple[Line, ...]:
        """One round. Raises ConfigError when UDP is asked for and the target has no reflector."""
        engine, config = self._engine, self.config
        if engine is None:
            raise RuntimeError("open() the probe before it measures")
        if engine.method == "udp" and target.udp_echo_port is None:
            raise ConfigError(
                f"site {target.site!r} has no udp_echo_port, and ping.engine is 'udp'; give it one, or set ping.engine to 'auto'"
            )
        address = _address(engine, target)
        flow = 0
        if config.flows > 1:
            turn = (target.site, target.address)
            flow = self._rounds[turn] % config.flows
            self._rounds[turn] += 1
        started_at_ns = time.time_ns()
        samples = await engine.ping(
            address,
            count=config.count,
            interval_ns=round(config.interval_ms * MS),
            timeout_ns=round(config.timeout_ms * MS),
            payload_bytes=config.payload_bytes,
            flow=flow,
        )
        header = vantage.header(target, measured=address, started_at_ns=started_at_ns, engine=engine.name)
        return (self._result(header, engine, samples, flow),)

    def under_way(self) -> list[RoundUnderWay]:
        """See probes.model.Watchable."""
        return [] if self._engine is None else [self._so_far(self._engine, one) for one in self._engine.under_way()]

    def _so_far(self, engine: PingEngine, one: Round) -> RoundUnderWay:
        samples = one.samples_so_far()

        def result(target: Target, vantage: Vantage) -> Line:
            header = vantage.header(target, measured=_address(engine, target), started_at_ns=samples[0].sent_at_ns, engine=engine.name)
            return self._result(header, engine, samples, one.flow)

        return RoundUnderWay(one.peer[0] if isinstance(one.peer, tuple) else str(one.peer), samples, result)

    def _result(self, header: Header, engine: PingEngine, samples: tuple[PingSample, ...], flow: int) -> PingResult:
        return PingResult(
            **header,
            method=engine.method,
            timeout_ns=round(self.config.timeout_ms * MS),
            samples=samples,
            payload_bytes=self.config.payload_bytes,
            flow=flow if engine.flows > 1 else None,
        )

    async def close(self) -> None:
        """Close the engine."""
        if self._engine is not None:
            await self._engine.close()
            self._engine = None


def _address(engine: PingEngine, target: Target) -> str:
    """The target as the engine takes it."""
    if engine.method != "udp":
        return target.address
    return f"[{target.address}]:{target.udp_echo_port}" if ":" in target.address else f"{target.address}:{target.udp_echo_port}"
