"""Rounds of packets that Ctrl-C found under way, as results of fewer packets: those whose fate is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from probes.model import ProbeType, Target, Vantage
from probes.oneshot import RoundUnderWay, under_way

if TYPE_CHECKING:
    from records.batch import Line

__all__ = ["SoFar", "rounds_so_far"]


@dataclass(frozen=True, slots=True)
class SoFar:
    """A round that is not over. host: the numeric address it goes to; result: makes what there is of it a measurement of a target."""

    host: str
    result: Callable[[Target, Vantage], Line]


def rounds_so_far(probe: ProbeType) -> list[SoFar]:
    """The rounds of a ping or STAMP probe that have a packet of known fate; none of the other types."""
    engine = getattr(probe, "_engine", None)  # not part of what every probe type shows
    if probe.name == "stamp":
        return [SoFar(flight.peer[0], _stamp(probe, engine, begun, flight)) for begun, flight in _flights(engine) if begun.samples_so_far()]
    if probe.name == "ping":
        return [SoFar(one.host, _ping(probe, engine, one)) for one in under_way(probe) if isinstance(one, RoundUnderWay) and one.samples]
    return []


def _flights(engine: Any) -> list[tuple[Any, Any]]:
    return [] if engine is None else list(getattr(engine, "_flights").items())  # noqa: B009


def _ping(probe: Any, engine: Any, one: RoundUnderWay) -> Callable[[Target, Vantage], Line]:
    def result(target: Target, vantage: Vantage) -> Line:
        from records.measurement import PingResult

        return PingResult(
            **vantage.header(target, measured=target.address, started_at_ns=one.samples[0].sent_at_ns, engine=engine.name),
            method=engine.method,
            timeout_ns=round(probe.config.timeout_ms * 1e6),
            samples=one.samples,
            payload_bytes=probe.config.payload_bytes,
            flow=one.flow if engine.flows > 1 else None,
        )

    return result


def _stamp(probe: Any, engine: Any, begun: Any, flight: Any) -> Callable[[Target, Vantage], Line]:
    # What the replies say is read off now: the engine forgets a round that is given up.
    config = probe.config
    made = getattr(engine, "_result")(flight, begun.samples_so_far(), config.kind)  # noqa: B009

    def result(target: Target, vantage: Vantage) -> Line:
        from records.stamp import StampResult

        place = f"[{target.address}]:{target.stamp_port}" if ":" in target.address else f"{target.address}:{target.stamp_port}"
        return StampResult(
            **vantage.header(target, measured=place, started_at_ns=made.samples[0].sent_at_ns, engine=engine.name),
            mode="authenticated" if config.key_file else "unauthenticated",
            reflector=made.reflector,
            timeout_ns=round(config.timeout_ms * 1e6),
            packet_bytes=config.packet_bytes or config.base_bytes,
            samples=made.samples,
            forward_lost=made.lost.forward,
            backward_lost=made.lost.backward,
            undirected_lost=made.lost.undirected,
            clock_error_ns=made.clock_error_ns,
            unverified=made.unverified,
        )

    return result
