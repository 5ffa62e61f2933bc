"""What every probe type shares: whom it measures, who it is, and the one thing it can do, `once`."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypedDict, runtime_checkable

from records.errors import OutsideError
from records.words import Medium

if TYPE_CHECKING:
    from records.batch import Line
    from records.hop import Hop
    from records.ping import PingSample
    from records.stamp import StampSample

__all__ = ["Header", "ProbeType", "RoundUnderWay", "Target", "TraceUnderWay", "Vantage", "Watchable", "Withheld", "new_boot_id"]


class Withheld(OutsideError):
    """A measurement that is not made now, and why: a budget is used up, or the target asked to be left alone for a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A site as one agent reaches it over one medium.

    site             its site id: the `dst` of every measurement
    address          IP address or host name to ping and trace
    medium           what joins the agent's site to it
    udp_echo_port    of its UDP reflector; None when it has none
    throughput_port  of its throughput server; None when it has none
    stamp_port       of its STAMP reflector (UDP); None when it has none
    inference_url    base URL of its OpenAI-compatible API, ending in ``/v1``; None when it serves no model
    inference_model  the model to ask for; None asks the server for its first one
    metrics_url      where the inference server publishes its own metrics, such as ``http://host:8000/metrics``; None where it does not
    http_url         what the http probe measures, as in ``https://host/`` or ``tcp://host:443``; None when there is nothing
    api_key_file     file with the bearer token of the inference endpoint, readable by its owner only; never the token itself
    api_key_env      or the environment variable that holds it
    """

    site: str
    address: str
    medium: Medium = "internet"
    udp_echo_port: int | None = None
    throughput_port: int | None = None
    stamp_port: int | None = None
    inference_url: str | None = None
    inference_model: str | None = None
    api_key_file: str | None = None
    api_key_env: str | None = None
    metrics_url: str | None = None
    http_url: str | None = None


class Header(TypedDict):
    """The fields every measurement begins with; see records.measurement.Measurement."""

    id: str
    agent: str
    src: str
    dst: str
    medium: Medium
    target: str
    started_at_ns: int
    engine: str


def new_boot_id() -> str:
    """A fresh name for one life of an agent's process: 16 hexadecimal digits at random."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vantage:
    """Who measures and from where; hands out measurement ids that are unique for ever (boot id and a counter)."""

    agent: str
    site: str
    boot: str
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def header(self, target: Target, *, measured: str, started_at_ns: int, engine: str) -> Header:
        """The common fields of a new measurement; `measured` is the address or URL that was used."""
        return {
            "id": f"{self.boot}-{next(self._numbers)}",
            "agent": self.agent,
            "src": self.site,
            "dst": target.site,
            "medium": target.medium,
            "target": measured,
            "started_at_ns": started_at_ns,
            "engine": engine,
        }


class ProbeType(Protocol):
    """A probe type: opened once, asked for one measurement at a time, possibly of many targets at once.

    `once` measures one target now and returns what is to be kept. A target that does not answer is a result, not
    an exception; an exception means that the agent itself could not measure.
    """

    name: str

    async def open(self) -> None: ...

    async def once(self, target: Target, vantage: Vantage) -> tuple[Line, ...]: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class RoundUnderWay:
    """A round of ping or STAMP that is not over.

    host     numeric address that it goes to
    samples  of the packets whose fate is known, in order; none yet at first
    result   makes of these samples, where there are any, the measurement of a target: a round of fewer packets
    """

    host: str
    samples: Sequence[PingSample | StampSample]
    result: Callable[[Target, Vantage], Line]


@dataclass(frozen=True, slots=True)
class TraceUnderWay:
    """A trace that is not over: the hops so far. `address`: the target's, as it was given."""

    address: str
    flow: int
    hops: tuple[Hop, ...]
    reached: bool


@runtime_checkable
class Watchable(Protocol):
    """A probe type that shows what it has so far of the measurements that it is at."""

    def under_way(self) -> Sequence[RoundUnderWay | TraceUnderWay]: ...
