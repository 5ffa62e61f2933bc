"""The process that is a loopback lab: ``python -m lab.loopback_daemon FOLDER [--serving]``, topology on standard input.

Says on standard output how it goes (one JSON object a line: progress, ready or failed). Ends, with the inference
servers it started, on SIGTERM or SIGINT or, unless detached, when its standard input closes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from lab import serving
from lab.loopback import LoopbackState, clear, pair_address, site_address
from lab.loopback_delay import OneWay, PreciseTimer
from lab.loopback_proxy import DelayingProxy
from lab.paths import PathFinder
from lab.ports import INFERENCE_PORT, THROUGHPUT_PORT, UDP_ECHO_PORT
from lab.reading import parse
from lab.state import MODEL, process_start
from lab.topology import Topology
from probes.ping import UdpEchoReflector
from probes.throughput.lease import Lease
from probes.throughput.server import BuiltinServer
from records.errors import IsochroneError, OutsideError
from records.link import MEDIA

__all__ = ["main"]

#: Second octets a lab may take; each lab uses four in a row, so several may run on one machine.
_BASES = range(16, 240, 4)


def _say(**message: object) -> None:
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(message).encode() + b"\n")


def _take_base() -> tuple[int, socket.socket]:
    """Addresses no other lab uses: (second octet, the socket that keeps them ours)."""
    for base in _BASES:
        flag = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            flag.bind((site_address(base, 0), INFERENCE_PORT))
            flag.listen(1)
        except OSError as error:
            flag.close()
            if error.errno != errno.EADDRINUSE:
                raise OutsideError(
                    f"the loopback lab needs addresses in 127.0.0.0/8, which this system does not give: {error.strerror}"
                ) from None
        else:
            return base, flag
    raise OutsideError(f"TCP port {INFERENCE_PORT} is taken on every loopback address; end what listens on 0.0.0.0:{INFERENCE_PORT}")


def _launch(argv: list[str]) -> subprocess.Popen[bytes]:
    """Start a server; it dies with the thread that made it, so this is the loop's own thread."""
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=sys.stderr)


def _is_alive(process: subprocess.Popen[bytes]) -> Callable[[], bool]:
    return lambda: process.poll() is None


class _World:
    """Everything one loopback lab runs, from its start to its end."""

    def __init__(self, topology: Topology, base: int, folder: Path) -> None:
        self._topology = topology
        self._base = base
        self._folder = folder
        self._random = random.Random(topology.seed)  # noqa: S311  loss and jitter that can be repeated
        self._number = {site.id: number for number, site in enumerate(topology.sites, start=1)}
        self._timer = PreciseTimer()
        self._stack = contextlib.AsyncExitStack()
        self._servers: dict[str, subprocess.Popen[bytes]] = {}

    async def start(self, *, with_models: bool) -> None:
        """Servers at every site, then what delays between every pair."""
        sites = self._topology.sites
        if with_models:
            model = serving.make_model(self._folder / MODEL)
            for serving_site in (site.id for site in sites if site.serves):
                self._servers[serving_site] = _launch(serving.server_argv(self._own_address(serving_site), INFERENCE_PORT, model))
        for site in sites:
            server = BuiltinServer(self._own_address(site.id), THROUGHPUT_PORT, lease=Lease())  # every site is a host of its own
            await server.start()
            self._stack.push_async_callback(server.stop)
        ways = self._ways()
        for (src, dst, address), (there, back) in ways.items():
            await self._pair(src, dst, address, there, back)
        _say(progress=f"{len(ways)} directed paths with reflectors and proxies that delay")
        if self._servers:
            _say(progress=f"waiting for {len(self._servers)} inference servers")
        for name, process in self._servers.items():
            url = f"http://{self._own_address(name)}:{INFERENCE_PORT}"
            await asyncio.to_thread(serving.wait_ready, url, 40.0, _is_alive(process))

    def _own_address(self, site: str) -> str:
        return site_address(self._base, self._number[site])

    def _ways(self) -> dict[tuple[str, str, str], tuple[OneWay, OneWay]]:
        """(src, dst, address) -> the way there and the way back, for every pair and medium; a way's rate is one thing for all."""
        finder = PathFinder(self._topology)
        ids = [site.id for site in self._topology.sites]
        single = {
            (src, dst, medium): OneWay.of(path)
            for medium in MEDIA
            for src in ids
            for dst in ids
            if src != dst and (path := finder.path(src, dst, medium))
        }
        return {
            (src, dst, pair_address(self._base, self._number[src], self._number[dst], medium)): (there, single[dst, src, medium])
            for (src, dst, medium), there in single.items()
            if (dst, src, medium) in single
        }

    async def _pair(self, src: str, dst: str, address: str, there: OneWay, back: OneWay) -> None:
        reflector = UdpEchoReflector(address, UDP_ECHO_PORT, delay_ns=self._hold(there, back))
        await reflector.start()
        self._stack.push_async_callback(reflector.stop)
        ports = [THROUGHPUT_PORT] + ([INFERENCE_PORT] if dst in self._servers else [])
        for port in ports:
            proxy = DelayingProxy(address, port, (self._own_address(dst), port), there, back, self._timer, self._random)
            await proxy.start()
            self._stack.push_async_callback(proxy.stop)

    def _hold(self, there: OneWay, back: OneWay) -> Callable[[str, int], int | None]:
        """How long the reflector holds a request: the way there and back, or for ever."""
        chance = self._random.random

        def hold(_host: str, _port: int) -> int | None:
            if chance() < there.loss_ratio or chance() < back.loss_ratio:
                return None
            return there.wait_ns(chance) + back.wait_ns(chance)

        return hold

    async def stop(self) -> None:
        """End everything."""
        for process in self._servers.values():
            process.terminate()
        await self._stack.aclose()
        self._timer.close()
        for process in self._servers.values():
            try:
                await asyncio.to_thread(process.wait, 3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def _run(folder: Path, *, with_models: bool, detached: bool) -> None:
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, done.set)
    topology = parse(json.loads(sys.stdin.buffer.readline()), "the topology handed over")
    base, flag = _take_base()
    with flag:
        world = _World(topology, base, folder)
        try:
            await world.start(with_models=with_models)
            if not detached:
                loop.add_reader(0, lambda: done.set() if not os.read(0, 4096) else None)
            start = process_start(os.getpid())
            assert start is not None
            document = topology.document()
            LoopbackState(pid=os.getpid(), pid_start=start, base=base, serving=with_models, topology=document).write(folder)
            _say(ready=True)
            await done.wait()
        finally:
            await world.stop()
            clear(folder)


def main(argv: list[str] | None = None) -> int:
    """Be the lab until told to stop; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lab.loopback_daemon", description="The process behind a loopback lab.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--serving", action="store_true", help="start inference servers at the sites that serve")
    parser.add_argument("--detached", action="store_true", help="live on when the starting process ends")
    options = parser.parse_args(argv)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(65536, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))  # three sockets for every pair and medium
    try:
        asyncio.run(_run(options.folder, with_models=options.serving, detached=options.detached))
    except IsochroneError as error:
        _say(failed=str(error))
        return error.exit_status
    except OSError as error:
        _say(failed=f"the loopback lab could not be set up: {error}")
        return OutsideError.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
