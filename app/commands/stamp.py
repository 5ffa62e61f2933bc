"""`isochrone stamp` and `isochrone stamp-reflector`: RFC 8762 from either end, now."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Any

import click

from app.commands.measure import MS
from app.measuring import common, keep_of, run, sites_of
from app.output import emit_json, json_option, note
from app.quantities import YEAR_S, Number, as_options
from probes.model import Target

__all__ = ["stamp", "stamp_reflector"]

_US_HELP = "Bound of this host's clock error in us, where PTP or GPS gives one.  [default: the kernel's, if it is in step]"


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option("-p", "--port", type=click.IntRange(1, 65535), default=862, show_default=True, help="UDP port of the reflector there.")
@click.option("-c", "--count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Test packets to each target.")
@click.option("-i", "--interval", type=MS, default="50ms", show_default=True, help="From one packet to the next.")
@click.option("--timeout", type=MS, default="2s", show_default=True, help="A reply later than this counts as lost.")
@click.option("-s", "--size", type=click.IntRange(0, 8972), default=0, help="UDP payload in bytes, both ways.  [default: the least]")
@click.option("--key-file", default="", metavar="FILE", help="Authenticated mode with the key in this file (HMAC-SHA-256).")
@click.option(
    "--reflector", type=click.Choice(["auto", "stateful", "stateless"]), default="auto", show_default=True, help="What answers there."
)
@click.option("--clock-error-us", type=Number(0, 1_000_000_000), default=0, metavar="US", help=_US_HELP)
@common
def stamp(
    targets: tuple[str, ...],
    port: int,
    count: int,
    interval: float,
    timeout: float,
    size: int,
    key_file: str,
    reflector: str,
    clock_error_us: float,
    **options: Any,
) -> None:
    """Measure each TARGET by STAMP (RFC 8762): round trip without the reflector's residence, loss and delay variation by direction.

    The target runs `isochrone stamp-reflector`, an agent with serve.stamp_port, or is a router with a reflector.

    Exit status 1 when one did not reply.

    Example: isochrone stamp 192.0.2.1 -c 100 -i 20ms
    """
    from probes.stamp import StampConfig, StampProbe

    as_json = options.pop("as_json")
    keep = keep_of(options, len(targets))
    with as_options():
        config = StampConfig(
            count=count,
            interval_ms=interval,
            timeout_ms=timeout,
            packet_bytes=size,
            key_file=key_file,
            reflector=reflector,
            clock_error_us=clock_error_us,
        )
    sites = sites_of(targets, keep)
    whom = [Target(site=s, address=a, medium=keep.medium, stamp_port=port) for s, a in zip(sites, targets, strict=True)]  # type: ignore[arg-type]
    run(StampProbe(config), whom, keep, as_json=as_json, together=True)


@click.command("stamp-reflector")
@click.option("--host", default="0.0.0.0", show_default=True, help="Address to listen on; :: for IPv6.")  # noqa: S104  others are to reach it
@click.option("-p", "--port", type=click.IntRange(0, 65535), default=862, show_default=True, help="UDP port; 0 takes a free one.")
@click.option("--key-file", type=click.Path(path_type=Path), metavar="FILE", help="Authenticated mode with the key in this file.")
@click.option("--stateless", is_flag=True, help="Copy the senders' numbers; they cannot tell loss by direction then.")
@click.option("--allow", multiple=True, metavar="NETWORK", help="Answer only these networks; may be given several times.  [default: all]")
@click.option(
    "--packets-per-second", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="Answers to one source at most."
)
@click.option("--clock-error-us", type=Number(0, 1_000_000_000), default=0, metavar="US", help=_US_HELP)
@click.option("--seconds", type=Number(0.1, YEAR_S), metavar="N", help="Stop after so many seconds.  [default: never]")
@json_option
def stamp_reflector(
    host: str,
    port: int,
    key_file: Path | None,
    allow: tuple[str, ...],
    packets_per_second: int,
    clock_error_us: float,
    seconds: float | None,
    *,
    stateless: bool,
    as_json: bool,
) -> None:
    """Answer STAMP test packets (RFC 8762) until Ctrl-C; an answer is never longer than its question.

    At the end it says how many packets met which end.

    Example: isochrone stamp-reflector --port 8620 --allow 192.0.2.0/24
    """
    from probes.stamp import StampReflector, parse_networks, read_key

    reflector = StampReflector(
        host,
        port,
        key=None if key_file is None else read_key(key_file),
        is_stateful=not stateless,
        allowed=parse_networks(allow),
        packets_per_s=packets_per_second,
        clock_error_ns=round(clock_error_us * 1000) or None,
    )
    asyncio.run(_reflect(reflector, seconds))
    counts = dict(reflector.counts.items())
    if as_json:
        emit_json({"host": host, "port": reflector.port, "packets": counts})
    else:
        click.echo(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count) or "no packet came")


async def _reflect(reflector: Any, seconds: float | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await reflector.start()
    note(f"STAMP reflector ready on {reflector.host} port {reflector.port}")
    try:
        async with contextlib.AsyncExitStack() as stack:
            if seconds is not None:
                stack.enter_context(contextlib.suppress(TimeoutError))
                await stack.enter_async_context(asyncio.timeout(seconds))
            await stop.wait()
    finally:
        await reflector.stop()
