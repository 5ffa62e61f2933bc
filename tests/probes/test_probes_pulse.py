"""Rounds keep the grid; deadlines end what `asyncio.timeout` would end, with one timer for all of them."""

import asyncio

import pytest

from probes.ping import IcmpEngine
from probes.ping.session import EchoSession
from probes.pulse import GRID_NS, Deadlines


async def _outcome(deadlines: Deadlines, limit_s: float, work_s: float) -> str:
    """What becomes of work that takes so long under so short a limit."""
    try:
        async with deadlines.within(limit_s):
            await asyncio.sleep(work_s)
    except TimeoutError:
        return "timeout"
    return "done"


def test_each_ends_at_its_own_time() -> None:
    """Longer and shorter limits in any order: what outlasts its own is ended, nothing else is, and no timer is left behind."""

    async def go() -> tuple[list[str], int]:
        deadlines, loop = Deadlines(), asyncio.get_running_loop()
        limits = [(60.0, 0.05), (0.02, 60.0), (0.04, 60.0), (0.01, 60.0), (0.0, 60.0), (60.0, 0.0)]
        tasks = [asyncio.create_task(_outcome(deadlines, *one)) for one in limits]
        await asyncio.sleep(0)
        began_s = loop.time()
        outcomes = await asyncio.gather(*tasks)
        assert loop.time() - began_s < 30, "nobody waited for the longest"
        return outcomes, sum(not handle.cancelled() for handle in loop._scheduled)  # type: ignore[attr-defined]

    outcomes, timers = asyncio.run(go())
    assert outcomes == ["done", "timeout", "timeout", "timeout", "timeout", "done"]
    assert timers <= 1, "one that is set to a limit which was not needed"


def test_who_is_slow_to_end_is_ended_once() -> None:
    """A task that cleans up for longer than another's limit is not ended a second time, and the other's limit holds."""

    async def slow(deadlines: Deadlines) -> str:
        try:
            async with deadlines.within(0.01):
                try:
                    await asyncio.sleep(60)
                finally:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            return "timeout"
        return "done"

    async def go() -> list[str]:
        deadlines = Deadlines()
        return await asyncio.gather(slow(deadlines), _outcome(deadlines, 0.03, 60.0))

    assert asyncio.run(go()) == ["timeout", "timeout"]


def test_a_cancel_from_outside_stays_one() -> None:
    """Whoever cancels a task under a limit gets a cancelled task, and an error within passes through."""

    async def go() -> None:
        deadlines = Deadlines()
        task = asyncio.create_task(_outcome(deadlines, 60.0, 60.0))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ValueError, match="mine"):
            async with deadlines.within(60.0):
                raise ValueError("mine")

    asyncio.run(go())


def test_rounds_of_an_engine_that_rests_long_begin_on_the_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rounds begun whenever: the packets of all are due at moments of the grid, so that one wake-up sends them."""
    begun: list[int] = []
    begin = EchoSession.begin

    def noted(self: EchoSession, peer: object, *, now_ns: int, **more: object) -> object:
        begun.append(now_ns)
        return begin(self, peer, now_ns=now_ns, **more)  # type: ignore[arg-type]

    async def go() -> None:
        engine = IcmpEngine()
        engine._loop = asyncio.get_running_loop()
        engine._is_ticking = True
        engine._intervals[10 * GRID_NS] += 1
        for _ in range(3):
            await asyncio.sleep(0.0037)
            await engine._run("127.0.0.1", count=0, interval_ns=10 * GRID_NS, timeout_ns=GRID_NS, payload_bytes=56)

    monkeypatch.setattr(EchoSession, "begin", noted)
    asyncio.run(go())
    assert [at_ns % GRID_NS for at_ns in begun] == [0, 0, 0]
