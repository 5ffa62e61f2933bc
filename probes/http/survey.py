"""A survey: a few connections to each of many endpoints within half a minute, politely; the survey's manners are `Manners`.

Rounds go over all endpoints in turn, so that the connections to one of them lie apart; providers are interleaved and
capped. RTTs come from the kernel, so that many connections at once do not disturb them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from probes.http.client import ENGINE, Known, Visitor
from probes.http.config import WebEndpoint
from probes.model import Target, Vantage
from records.errors import OutsideError
from records.measurement import HttpResult

__all__ = ["Manners", "Outcome", "Spot", "alone", "survey"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How politely a survey goes about.

    connections           to each endpoint: the first with TLS and one HEAD request, the second resumes the TLS session,
                          the others are TCP hand-shakes alone
    at_once               connections under way at any time, of all providers
    at_once_per_provider  and of one
    start_gap_ms          from the start of one connection to the next, of any
    own_gap_ms            and of the same endpoint's
    deadline_s            after which nothing more is waited for
    """

    connections: int = 3
    at_once: int = 32
    at_once_per_provider: int = 8
    start_gap_ms: int = 15
    own_gap_ms: int = 500
    deadline_s: float = 28.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """One site to survey: `endpoints` by preference, of which the first that gives an answer is kept to."""

    site: str
    provider: str
    endpoints: tuple[WebEndpoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Every connection that was made or tried, in the order they ended, and whether the deadline cut the survey short."""

    results: tuple[HttpResult, ...]
    is_cut_short: bool
    took_ns: int


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One survey at a time on this host (network namespace). Raises OutsideError while another one runs.

    The lock is an abstract Unix socket, which nobody can leave behind; where there are none (not Linux) nothing is locked.
    """
    if sys.platform != "linux":
        yield
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        try:
            lock.bind("\0isochrone-survey")
        except OSError:
            raise OutsideError("another survey runs on this host; wait for its end (half a minute at most)") from None
        yield


async def survey(
    spots: Sequence[Spot],
    visitor: Visitor,
    vantage: Vantage,
    manners: Manners | None = None,
    *,
    on_result: Callable[[HttpResult], None] = lambda _: None,
) -> Outcome:
    """Survey every spot. Raises OutsideError at once when it shows that this host has no network at all."""
    began_ns = time.monotonic_ns()
    walk = _Walk(visitor, vantage, manners or Manners(), len(spots), on_result)
    is_cut_short = False
    try:
        async with asyncio.timeout(walk.manners.deadline_s):
            await walk.everywhere(spots)
    except TimeoutError:
        is_cut_short = True
    return Outcome(results=tuple(walk.results), is_cut_short=is_cut_short, took_ns=time.monotonic_ns() - began_ns)


class _NoNetwork(Exception):
    """Every first connection failed on this side of the network."""


@dataclass(slots=True)
class _Walk:
    """The survey under way."""

    visitor: Visitor
    vantage: Vantage
    manners: Manners
    spot_count: int
    on_result: Callable[[HttpResult], None]
    results: list[HttpResult] = field(default_factory=list)
    _room: asyncio.Semaphore = field(init=False)
    _rooms: dict[str, asyncio.Semaphore] = field(default_factory=dict)
    _next_start_ns: int = 0
    _heard: bool = False
    _deaf: int = 0

    def __post_init__(self) -> None:
        self._room = asyncio.Semaphore(self.manners.at_once)

    async def everywhere(self, spots: Sequence[Spot]) -> None:
        """Every spot at once, as far as the manners allow. Raises OutsideError where there is no network."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for spot in _interleaved(spots):
                    tasks.create_task(self.visit(spot))
        except* _NoNetwork as none:
            raise OutsideError(str(none.exceptions[0])) from None

    async def visit(self, spot: Spot) -> None:
        """All connections to one spot."""
        room = self._rooms.setdefault(spot.provider, asyncio.Semaphore(self.manners.at_once_per_provider))
        tried = []
        for endpoint in spot.endpoints:
            tried.append((endpoint, *await self._connect(spot, room, endpoint, Known(), keep_session=endpoint.has_tls)))
            result = tried[-1][1]
            # Another name can help where this one is wrong, not where nothing can be looked up or sent.
            if result.outcome == "ok" or (result.failure_source in ("resolver", "agent") and result.outcome != "no_such_name"):
                break
        self._judge(result)
        kept = next((one for one in reversed(tried) if one[1].outcome == "ok"), None)
        kept = kept or next((one for one in tried if one[1].outcome != "no_such_name"), None)
        if kept is None:
            return  # a name that does not exist is not asked for again
        endpoint, _, known = kept
        for number in range(1, self.manners.connections):
            await asyncio.sleep(self.manners.own_gap_ms / 1000)
            less = "tls" if endpoint.has_tls and number == 1 else "tcp"
            _, known = await self._connect(spot, room, replace(endpoint, protocol=less, path=""), known)  # type: ignore[arg-type]

    async def _connect(
        self, spot: Spot, room: asyncio.Semaphore, endpoint: WebEndpoint, known: Known, *, keep_session: bool = False
    ) -> tuple[HttpResult, Known]:
        async with room, self._room:
            await self._pace()
            target = Target(site=spot.site, address=endpoint.host)
            header = self.vantage.header(target, measured=endpoint.url, started_at_ns=time.time_ns(), engine=ENGINE)
            result, known = await self.visitor.visit(endpoint, header, known, keep_session=keep_session)
        self.results.append(result)
        self.on_result(result)
        return result, known

    async def _pace(self) -> None:
        now_ns = time.monotonic_ns()
        start_ns = max(now_ns, self._next_start_ns)
        self._next_start_ns = start_ns + self.manners.start_gap_ms * 1_000_000
        if start_ns > now_ns:
            await asyncio.sleep((start_ns - now_ns) / 1e9)

    def _judge(self, result: HttpResult) -> None:
        """Give up when as many first connections as may be under way at once all failed on our own side."""
        if self._heard or result.failure_source not in ("resolver", "agent"):
            self._heard = True
            return
        self._deaf += 1
        if self._deaf < min(self.manners.at_once, self.spot_count):
            return
        if result.failure_source == "resolver":
            raise _NoNetwork(
                f"none of the first {self._deaf} names could be looked up ({result.error}); "
                "is this host connected, and is its resolver (/etc/resolv.conf) right?"
            )
        raise _NoNetwork(f"this host could not send to any of the first {self._deaf} endpoints ({result.error}); is it connected?")


def _interleaved(spots: Sequence[Spot]) -> list[Spot]:
    """One of each provider in turn, so that no provider's cap holds up the others."""
    by_provider: dict[str, list[Spot]] = {}
    for spot in spots:
        by_provider.setdefault(spot.provider, []).append(spot)
    turns = [(place, order, spot) for order, some in enumerate(by_provider.values()) for place, spot in enumerate(some)]
    return [spot for _, _, spot in sorted(turns, key=lambda turn: turn[:2])]
