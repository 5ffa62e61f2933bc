"""The process that is the lab: ``python -m lab.daemon STATE_FOLDER ID`` with the topology as JSON on standard input.

Makes namespaces, TUNs and inference servers, says on standard output how it goes (one JSON object a line: progress,
ready or failed), and then moves packets until it is told to stop. It ends when asked over the control socket, by
SIGTERM or SIGINT, or, unless detached, when the pipe on its standard input closes because its parent is gone; in every case it
takes everything it made with it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random

from lab import control, namespaces, tun
from lab.addresses import site_address
from lab.agenda import Agenda
from lab.fabric import Fabric
from lab.forwarding import Forwarder
from lab.ports import INFERENCE_PORT
from lab.reading import parse
from lab.state import MODEL, LabState, process_start
from lab.topology import Topology
from records.errors import IsochroneError, OutsideError

__all__ = ["main"]


class _Starter:
    """Tells the starting process how things go, for as long as it listens."""

    def say(self, **message: object) -> None:
        with contextlib.suppress(OSError):
            os.write(1, json.dumps(message).encode() + b"\n")


def _own_names() -> None:
    """Inside a fresh user namespace: a place of our own for the names of network namespaces."""
    if not namespaces.NAMESPACES.is_dir():
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True, capture_output=True)
        namespaces.NAMESPACES.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(namespaces.NAMESPACES)], check=True, capture_output=True)


class _Hosts:
    """The namespaces, TUNs and servers of one lab, from their making to their end."""

    def __init__(self, topology: Topology, state: LabState) -> None:
        self.topology = topology
        self.state = state
        self.tuns: list[int] = []
        self.servers: dict[str, subprocess.Popen[bytes]] = {}

    def path(self, site: str) -> Path:
        return namespaces.NAMESPACES / self.state.namespaces[site]

    def make(self) -> None:
        names = self.state.namespaces
        namespaces.add(names.values())
        self.state.inodes.extend(number for name in names.values() if (number := namespaces.inode(name)) is not None)
        self.state.write()
        for host_number, site in enumerate(names, start=1):
            with tun.entered(self.path(site)):
                self.tuns.append(namespaces.configure_host(host_number, len(names)))

    def serve(self, starter: _Starter) -> list[threading.Thread]:
        """Start an inference server at every site that serves; returns the threads that wait for them to be ready.

        The servers are started by the main thread: they die with the thread that made them.
        """
        from lab import serving

        model = serving.make_model(Path(self.state.state_dir) / MODEL)
        waiters = []
        for site in (site.id for site in self.topology.sites if site.serves):
            with tun.entered(self.path(site)):
                argv = serving.server_argv("0.0.0.0", INFERENCE_PORT, model)  # noqa: S104  # every address of this host, none of the machine's
                self.servers[site] = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True)
            waiters.append(threading.Thread(target=self._await, args=(site, starter), name=f"await {site}", daemon=True))
        self.state.servers.update({site: server.pid for site, server in self.servers.items()})
        self.state.write()
        return waiters

    def _await(self, site: str, starter: _Starter) -> None:
        from lab import serving

        server = self.servers[site]
        address = site_address(self.topology.sites.index(self.topology.site(site)) + 1, "internet")
        try:
            tun.enter(os.open(self.path(site), os.O_RDONLY | os.O_CLOEXEC))
            serving.wait_ready(f"http://{address}:{INFERENCE_PORT}", timeout_s=60.0, alive=lambda: server.poll() is None)
            starter.say(serving=site)
        except (IsochroneError, OSError) as error:
            starter.say(failed=f"the inference server at {site} did not start: {error}", exit_status=3)

    def end(self) -> None:
        """End what runs inside, ours and others', and remove the namespaces."""
        for server in self.servers.values():
            server.terminate()
        for fd in self.tuns:
            os.close(fd)
        self.tuns.clear()
        for server in self.servers.values():
            try:
                server.wait(3)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        self.state.clear()


def _run(options: argparse.Namespace, starter: _Starter) -> None:
    topology = parse(json.loads(sys.stdin.buffer.readline()), "the topology handed over")
    start = process_start(os.getpid())
    assert start is not None
    state = LabState(
        id=options.id,
        pid=os.getpid(),
        pid_start=start,
        state_dir=str(options.state_dir),
        user_namespace=options.user_namespace,
        namespaces={site.id: f"iso-{options.id}-{n}" for n, site in enumerate(topology.sites, start=1)},
        inodes=[],
        topology=topology.document(),
    )
    state.write()
    hosts = _Hosts(topology, state)
    # A signal is a byte in this pipe, so that it is handled between packets and never in the middle of something.
    wake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    try:
        if options.user_namespace:
            _own_names()
        starter.say(progress=f"{len(topology.sites)} network namespaces, {len(topology.routers)} routers, {len(topology.links) // 2} links")
        hosts.make()
        waiters = hosts.serve(starter) if options.serving else []
        listener = control.listen(state.control)
        lifeline = [] if options.detached else [0]
        chance = Random(topology.seed).random  # noqa: S311  # chance in a model, nothing secret
        agenda = Agenda(Forwarder(topology, chance), time.monotonic_ns())
        fabric = Fabric(agenda, hosts.tuns, listener, watch=[wake, *lifeline], on_watch=lambda _fd: fabric.stop())
        starter.say(ready=[site.id for site in topology.sites if site.serves] if options.serving else [])
        for waiter in waiters:
            waiter.start()
        fabric.run()
    finally:
        hosts.end()


def main(argv: list[str] | None = None) -> int:
    """Be the lab until told to stop; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lab.daemon", description="The process behind `isochrone lab up`.")
    parser.add_argument("state_dir", type=Path)
    parser.add_argument("id")
    parser.add_argument("--serving", action="store_true", help="start inference servers at the sites that serve")
    parser.add_argument("--detached", action="store_true", help="live on when the starting process ends")
    parser.add_argument("--user-namespace", action="store_true", help="already inside a user namespace made for this lab")
    options = parser.parse_args(argv)
    starter = _Starter()
    try:
        _run(options, starter)
    except IsochroneError as error:
        starter.say(failed=str(error), exit_status=error.exit_status)
        return error.exit_status
    except (OSError, subprocess.CalledProcessError) as error:
        starter.say(failed=f"the lab could not be set up: {error}", exit_status=OutsideError.exit_status)
        return OutsideError.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
