"""Running iperf3 as a client, within a time and a byte budget.

iperf3 ends a test by time or by bytes, never by whichever comes first. So a test runs by time with its sending rate
held to max_bytes / duration, and a path that is faster than that shows it by reaching that rate (`is_bound`). The probe
then runs a test by bytes, which such a path ends sooner than the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import Literal

from probes.throughput.iperf3_json import Iperf3Error, Iperf3Report, parse_iperf3
from records.errors import ToolMissing

__all__ = ["Iperf3Run", "NotIperf3", "find_iperf3", "iperf3_argv", "iperf3_version", "run_iperf3", "whole_seconds"]

#: A reading this near to the rate that the budget allows is the budget's, not the path's.
_BOUND = 0.9
#: Set-up and results each take a few round trips, and a slow path has to drain (perfSONAR allows 3 s + 2 s).
_MARGIN_S = 8.0
#: Two connections and a stream's, parameters, start, end and results (measured: 12 round trips with one stream).
_SETUP_ROUND_TRIPS = 20
_CONNECT_TIMEOUT_MS = 3_000
#: What iperf3 says when the other end took the connection and then hung up: before the test began, it is not iperf3.
_HUNG_UP = ("unable to receive", "closed unexpectedly", "unable to send cookie", "unable to read", "unable to write", "Connection reset")


class NotIperf3(Exception):
    """Something answers on the port, and it is not an iperf3 server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Iperf3Run:
    """One test, a report for each direction. `is_bound`: the byte budget held the rate, so the path is at least that fast."""

    reports: tuple[Iperf3Report, ...]
    is_bound: bool


def find_iperf3() -> str | None:
    """Path of iperf3; None when it is not installed."""
    return shutil.which("iperf3")


@functools.cache
def iperf3_version(path: str) -> str:
    """Its version, such as ``3.12``."""
    said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout.split()
    return said[1] if len(said) > 1 else "unknown"


def iperf3_argv(
    path: str,
    address: str,
    port: int,
    *,
    direction: Literal["up", "down", "bidir"],
    duration_s: float,
    max_bytes: int,
    by_bytes: bool,
    congestion_control: str | None = None,
    streams: int = 1,
    udp_bps: int | None = None,
) -> list[str]:
    """The command of one test. iperf3 takes whole seconds; the rate is held so that they carry max_bytes in all.

    direction   bidir: both at the same time, each with half of the bytes
    udp_bps     UDP at this rate, or at what the bytes allow if that is less; None: TCP
    """
    if direction == "bidir":
        max_bytes //= 2
    argv = [path, "-c", address, "-p", str(port), "-J", "--connect-timeout", str(_CONNECT_TIMEOUT_MS)]
    if by_bytes and udp_bps is None:
        argv += ["-n", str(max_bytes)]
    else:
        seconds = whole_seconds(duration_s)
        rate_bps = max_bytes * 8 // seconds if udp_bps is None else min(udp_bps, max_bytes * 8 // seconds)
        argv += ["-t", str(seconds), "-b", str(max(1, rate_bps // streams))]  # the rate is of each stream
    if udp_bps is not None:
        argv.append("-u")
    if streams > 1:
        argv += ["-P", str(streams)]
    argv += {"up": [], "down": ["-R"], "bidir": ["--bidir"]}[direction]
    if congestion_control:
        argv += ["-C", congestion_control]
    return argv


def whole_seconds(duration_s: float) -> int:
    """The duration iperf3 is given: at least a second."""
    return max(1, round(duration_s))


async def run_iperf3(
    address: str,
    port: int,
    *,
    direction: Literal["up", "down", "bidir"],
    duration_s: float,
    max_bytes: int,
    by_bytes: bool = False,
    congestion_control: str | None = None,
    streams: int = 1,
    udp_bps: int | None = None,
    rtt_s: float = 0.0,
) -> Iperf3Run:
    """One test with a hard time limit, which allows for set-up and results that take some round trips of `rtt_s` each.

    Raises Iperf3Error when there is no result, NotIperf3 when the other end is none, ToolMissing without iperf3.
    """
    path = find_iperf3()
    if path is None:
        raise ToolMissing("iperf3 is not installed; install it with: apt-get install iperf3, or set tool = 'builtin'")
    argv = iperf3_argv(
        path,
        address,
        port,
        direction=direction,
        duration_s=duration_s,
        max_bytes=max_bytes,
        by_bytes=by_bytes,
        congestion_control=congestion_control if udp_bps is None else None,
        streams=streams,
        udp_bps=udp_bps,
    )
    limit_s = whole_seconds(duration_s) + _MARGIN_S + _SETUP_ROUND_TRIPS * rtt_s
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C"},
    )
    try:
        async with asyncio.timeout(limit_s):
            out, err = await process.communicate()
    except TimeoutError:
        raise Iperf3Error(f"iperf3 did not end within {limit_s:g} s and was stopped") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    try:
        reports = parse_iperf3(out.decode(errors="replace") or err.decode(errors="replace"))
    except Iperf3Error as error:
        if not error.has_begun and any(phrase in str(error) for phrase in _HUNG_UP):
            raise NotIperf3(str(error)) from None
        raise
    allowed_bps = max_bytes * 8 / whole_seconds(duration_s) / len(reports)
    is_bound = not by_bytes and udp_bps is None and max(report.throughput_bps for report in reports) >= _BOUND * allowed_bps
    return Iperf3Run(reports=reports, is_bound=is_bound)
