"""One-shot measurements: a probe type run from the command line, and its results sent as one batch."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from probes.hosts import is_host_name, parse_ip
from probes.model import ProbeType, Target, Vantage
from probes.policy import refusal
from records.errors import OutsideError, UserError

if TYPE_CHECKING:
    from records.batch import Line

__all__ = ["measure", "store"]

#: How many targets at the same time, of the types whose times are the kernel's and whose packets are paced; and of the others.
_MANY_AT_ONCE = {"ping": 500, "stamp": 500, "traceroute": 500}
_TARGETS_AT_ONCE = 64


@contextlib.asynccontextmanager
async def _opened(probe: ProbeType) -> AsyncIterator[ProbeType]:
    await probe.open()
    try:
        yield probe
    finally:
        await probe.close()


async def measure(
    probe: ProbeType,
    targets: Iterable[Target],
    vantage: Vantage,
    *,
    rounds: int = 1,
    at_once: int = 1,
    together: bool = False,
    on_start: Callable[[Target], None] = lambda _target: None,
) -> AsyncIterator[tuple[Target, Line]]:
    """Measure each target `rounds` times, one after the other; yields each result as soon as it is there.

    With `at_once` above 1 every round is that many measurements of the target at the same time, whose results come together. With
    `together` the targets do not wait for each other. `on_start` hears of each target when its first measurement begins.

    Raises UserError for an address that nobody may measure, and what the probe raises: NotPermitted, ToolMissing, ConfigError.
    """
    targets = list(targets)
    for target in targets:
        address = parse_ip(target.address)
        reason = None if address is None else refusal(address, is_private_allowed=True)
        if reason is not None:
            raise UserError(f"{target.address} is {reason}: one packet there may cause many; give the address of one host")
        if address is None and not is_host_name(target.address):
            raise UserError(f"target {target.address!r} is neither an IP address nor a host name")

    async def one(target: Target) -> AsyncGenerator[tuple[Target, Line], None]:
        on_start(target)
        for _ in range(rounds):
            for lines in await asyncio.gather(*(probe.once(target, vantage) for _ in range(at_once))):
                for line in lines:
                    yield target, line

    async with _opened(probe):
        if not together:
            for target in targets:
                async with contextlib.aclosing(one(target)) as found:
                    async for result in found:
                        yield result
            return
        async with contextlib.aclosing(
            _merged([one(target) for target in targets], _MANY_AT_ONCE.get(probe.name, _TARGETS_AT_ONCE))
        ) as all_found:
            async for result in all_found:
                yield result


async def _merged(sources: list[AsyncGenerator[tuple[Target, Line], None]], at_once: int) -> AsyncGenerator[tuple[Target, Line], None]:
    """What several generators yield, as it comes; at most `at_once` of them run at the same time."""
    room = asyncio.Semaphore(at_once)
    came: asyncio.Queue[tuple[Target, Line] | Exception | None] = asyncio.Queue()

    async def drain(source: AsyncGenerator[tuple[Target, Line], None]) -> None:
        try:
            async with room, contextlib.aclosing(source):
                async for result in source:
                    came.put_nowait(result)
        except Exception as error:  # noqa: BLE001  what one of them raises ends them all, below
            came.put_nowait(error)
        else:
            came.put_nowait(None)

    tasks = [asyncio.ensure_future(drain(source)) for source in sources]
    try:
        left = len(tasks)
        while left:
            result = await came.get()
            if isinstance(result, Exception):
                raise result
            if result is None:
                left -= 1
            else:
                yield result
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def store(lines: Iterable[Line], *, url: str, token_file: Path | None, vantage: Vantage) -> None:
    """Send measurements as one batch.

    Raises CollectorUnreachable without an answer, UserError when the collector refuses the token, the agent or the
    batch, OutsideError when it cannot take it now.
    """
    # Only here: an HTTP client takes longer to import than a traceroute takes.
    import gzip

    from probes.client import CollectorClient
    from probes.uplink import Verdict, judge
    from records.batch import BatchName, encode_line

    body = gzip.compress(b"".join(encode_line(line) for line in lines), mtime=0)
    client = CollectorClient(url, token_file=token_file)
    try:
        answer = await client.send(BatchName(vantage.agent, vantage.boot, 0), body)
    finally:
        await client.close()
    said = f"the collector at {url} answered {answer.status}" + (f": {answer.text}" if answer.text else "")
    match judge(answer):
        case Verdict.STORED:
            return
        case Verdict.REFUSED:
            raise UserError(f"{said}; check --token-file, --agent and --src")
        case Verdict.REJECTED | Verdict.QUARANTINED:
            raise UserError(said)
        case _:
            raise OutsideError(f"{said}; nothing was stored, try again later")
