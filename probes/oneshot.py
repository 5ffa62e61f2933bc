"""One-shot measurements: a probe type run from the command line, and its results sent as one batch."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from pathlib import Path

from probes.client import CollectorClient
from probes.hosts import is_host_name, parse_ip
from probes.model import ProbeType, Target, Vantage
from probes.policy import refusal
from probes.uplink import Verdict, judge
from records.batch import BatchName, Line, encode_line
from records.errors import OutsideError, UserError

__all__ = ["measure", "store"]

_TARGETS_AT_ONCE = 64


@contextlib.asynccontextmanager
async def _opened(probe: ProbeType) -> AsyncIterator[ProbeType]:
    await probe.open()
    try:
        yield probe
    finally:
        await probe.close()


async def measure(
    probe: ProbeType, targets: Iterable[Target], vantage: Vantage, *, rounds: int = 1, at_once: int = 1, together: bool = False
) -> AsyncIterator[tuple[Target, Line]]:
    """Measure each target `rounds` times, one after the other; yields each result as soon as it is there.

    With `at_once` above 1 every round is that many measurements of the target at the same time, whose results come together. With
    `together` all targets are measured at the same time in every round, and each is yielded when it ends.

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
    async with _opened(probe):
        if together:
            for _ in range(rounds):
                async with contextlib.aclosing(_together(probe, targets, vantage)) as ended:
                    async for target, lines in ended:
                        for line in lines:
                            yield target, line
            return
        for target in targets:
            for _ in range(rounds):
                for lines in await asyncio.gather(*(probe.once(target, vantage) for _ in range(at_once))):
                    for line in lines:
                        yield target, line


async def _together(probe: ProbeType, targets: Iterable[Target], vantage: Vantage) -> AsyncGenerator[tuple[Target, tuple[Line, ...]], None]:
    room = asyncio.Semaphore(_TARGETS_AT_ONCE)

    async def one(target: Target) -> tuple[Target, tuple[Line, ...]]:
        async with room:
            return target, await probe.once(target, vantage)

    tasks = [asyncio.ensure_future(one(target)) for target in targets]
    try:
        for task in asyncio.as_completed(tasks):
            yield await task
    finally:
        for left in tasks:
            left.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def store(lines: Iterable[Line], *, url: str, token_file: Path | None, vantage: Vantage) -> None:
    """Send measurements as one batch.

    Raises CollectorUnreachable without an answer, UserError when the collector refuses the token, the agent or the
    batch, OutsideError when it cannot take it now.
    """
    body = gzip.compress(b"".join(encode_line(line) for line in lines), mtime=0)
    client = CollectorClient(url, token_file=token_file)
    try:
        answer = await client.send(BatchName(vantage.agent, vantage.boot, 0), body)
    finally:
        await client.close()
    said = f"the collector at {url} answered {answer.status}" + (f": {answer.text}" if answer.text else "")
    match judge(answer.status):
        case Verdict.STORED:
            return
        case Verdict.REFUSED:
            raise UserError(f"{said}; check --token-file, --agent and --src")
        case Verdict.REJECTED | Verdict.QUARANTINED:
            raise UserError(said)
        case _:
            raise OutsideError(f"{said}; nothing was stored, try again later")
