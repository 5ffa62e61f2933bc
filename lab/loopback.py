"""The lab for machines that allow no namespaces: everything on the loopback interface, with real delay, without privilege.

Every directed pair of sites has one address for each medium, 127.B.s.d (s and d are host numbers, B stands for the
medium), and behind it, at the usual ports, things that are as far away as the topology says:

- a UDP reflector that holds each request for the path's delay there and back, with its jitter and loss;
- a TCP proxy to the site's real inference server, and one to its throughput server; bytes are delayed by direction
  and held to the path's rate.

What it cannot do, and does not pretend to: ICMP and traceroute (the kernel itself answers for every 127 address, at
once and in one hop; there are no routers, no TTL, no hop lists), the TCP hand-shake (it is over at once, so the connect
time and TCP_INFO's RTT are the loopback's), loss and retransmission within TCP, UDP rates, changes of links while it runs,
and IPv6 (its loopback is one address, and an ordinary user cannot add any).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lab.paths import PathFinder
from lab.ports import INFERENCE_PORT
from lab.reading import parse
from lab.state import MODEL, make_state_dir, process_start
from lab.topology import Topology
from lab.truth import PairTruth, pair_truths
from records.errors import OutsideError, UserError
from records.link import MEDIA, Medium

__all__ = ["CANNOT", "LoopbackLab", "LoopbackState", "clear", "pair_address", "site_address", "start"]

#: What a person should know before comparing it with anything.
CANNOT = "no ICMP, no traceroute, no hop lists, no IPv6; TCP opens at once (only its bytes are delayed); links do not change"

_READY_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0
_LOG = "loopback.log"
_FILE = "loopback.json"


def site_address(base: int, host_number: int) -> str:
    """Where the servers of a site really listen, undelayed; `base` is the lab's second octet.

    >>> site_address(16, 3)
    '127.16.3.1'
    """
    return f"127.{base}.{host_number}.1"


def pair_address(base: int, src_number: int, dst_number: int, medium: Medium) -> str:
    """Where one site reaches another over a medium.

    >>> pair_address(16, 1, 2, "internet"), pair_address(16, 2, 1, "direct-connect")
    ('127.17.1.2', '127.19.2.1')
    """
    return f"127.{base + 1 + MEDIA.index(medium)}.{src_number}.{dst_number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopbackState:
    """A loopback lab as others find it, in a file of its state folder.

    pid, pid_start   its process, and the start time of that in clock ticks since boot
    base             second octet of its addresses
    serving          whether its sites that serve run inference servers
    topology         the topology as its document, see Topology.document
    """

    pid: int
    pid_start: int
    base: int
    serving: bool
    topology: dict[str, object]

    @property
    def alive(self) -> bool:
        """Whether the lab's process still runs."""
        return process_start(self.pid) == self.pid_start

    def write(self, folder: Path) -> None:
        """Write the file."""
        new = folder / f"{_FILE}.new"
        new.write_text(json.dumps(asdict(self)))
        new.replace(folder / _FILE)

    @staticmethod
    def read(folder: Path) -> LoopbackState | None:
        """The state in a folder; None when there is none. Raises UserError when it is something else."""
        try:
            return LoopbackState(**json.loads((folder / _FILE).read_text()))
        except OSError:
            return None
        except (ValueError, TypeError) as error:
            raise UserError(f"{folder / _FILE} is not the state of a lab ({error}); remove it") from None


def clear(folder: Path) -> None:
    """Remove what a loopback lab keeps in its folder; a log that says something stays."""
    (folder / _FILE).unlink(missing_ok=True)
    (folder / MODEL).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        if (folder / _LOG).stat().st_size == 0:
            (folder / _LOG).unlink()


class LoopbackLab:
    """A running loopback lab; implements lab.world.Lab. Unless detached, its process ends with the one that started it."""

    kind: Literal["namespaces", "loopback"] = "loopback"

    def __init__(self, state: LoopbackState, state_dir: Path, process: subprocess.Popen[bytes] | None = None) -> None:
        self.state = state
        self.topology: Topology = parse(state.topology, str(state_dir))
        self.state_dir = state_dir
        self._process = process
        self._base = state.base
        self._serving = state.serving
        self._finder = PathFinder(self.topology)
        self._number = {site.id: number for number, site in enumerate(self.topology.sites, start=1)}

    def command(self, site: str, argv: Sequence[str]) -> list[str]:
        """`argv` itself: every site is this machine. Raises UnknownSite."""
        self.topology.site(site)
        return list(argv)

    def address(self, src: str, dst: str, medium: Medium = "internet") -> str | None:
        """Where src reaches dst over a medium; None when that medium does not join them. Raises UnknownSite."""
        src, dst = self.topology.site(src).id, self.topology.site(dst).id
        joined = src != dst and self._finder.path(src, dst, medium) and self._finder.path(dst, src, medium)
        return pair_address(self._base, self._number[src], self._number[dst], medium) if joined else None

    def media(self, src: str, dst: str) -> tuple[Medium, ...]:
        """The media over which src reaches dst."""
        return tuple(medium for medium in MEDIA if self.address(src, dst, medium) is not None)

    def inference_url(self, src: str, dst: str, medium: Medium = "internet") -> str | None:
        """Base URL of the inference API of dst as src reaches it; None when dst does not serve or is not reached."""
        address = self.address(src, dst, medium)
        serves = self._serving and self.topology.site(dst).serves
        return f"http://{address}:{INFERENCE_PORT}/v1" if address is not None and serves else None

    def truth(self) -> list[PairTruth]:
        """What every pair must measure over every medium; there are no hops to see, so none are listed."""
        found = []
        for truth in pair_truths(self.topology, self._finder):
            address = self.address(truth.src, truth.dst, truth.medium)
            assert address is not None
            seen = {"hops": (), "nodes": (), "hops_v6": (), "address_v6": None, "mtu": None, "silent": (), "paths": (), "reverse_paths": ()}
            found.append(replace(truth, address=address, rtt_min_ns=truth.rtt_ns, rtt_max_ns=truth.rtt_ns, **seen))  # type: ignore[arg-type]
        return found

    def stop(self) -> None:
        """End every process of the lab; doing it twice is fine."""
        if self._process is not None:
            if self._process.stdin is not None:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()  # its lifeline
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + _STOP_TIMEOUT_S
            if self.state.alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.state.pid, number)
            while self.state.alive and time.monotonic() < deadline:
                time.sleep(0.01)
        clear(self.state_dir)


def start(topology: Topology, state_dir: Path, say: Callable[[str], None], *, serving: bool = True, detached: bool = False) -> LoopbackLab:
    """Start a loopback lab and return when its reflectors, proxies and inference servers answer.

    detached   whether it lives on when this process ends
    Raises OutsideError, with what its process said, when it does not start. At most one lab lives in a folder: see lab.world.start.
    """
    folder = state_dir.absolute()
    is_new = make_state_dir(folder)
    say(f"loopback lab of {len(topology.sites)} sites: {CANNOT}")
    argv = [sys.executable, "-m", "lab.loopback_daemon", str(folder)]
    argv += [flag for flag, given in (("--serving", serving), ("--detached", detached)) if given]
    with (folder / _LOG).open("wb") as log:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(topology.document()).encode() + b"\n")
        process.stdin.flush()
        _await_ready(process, say, folder / _LOG)
        state = LoopbackState.read(folder)
        assert state is not None
        if detached:
            process.stdin.close()
    except BaseException:
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.terminate()
        process.wait()
        clear(folder)
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    finally:
        process.stdout.close()
    return LoopbackLab(state, folder, None if detached else process)


def _await_ready(process: subprocess.Popen[bytes], say: Callable[[str], None], log: Path) -> None:
    """Pass on its progress until it is ready."""
    assert process.stdout is not None
    deadline = time.monotonic() + _READY_TIMEOUT_S
    text = b""
    while True:
        if not select.select([process.stdout], (), (), max(0.0, deadline - time.monotonic()))[0]:
            raise OutsideError(f"the loopback lab was not ready within {_READY_TIMEOUT_S:g} s; its log is {log}")
        data = os.read(process.stdout.fileno(), 65536)
        if not data:
            process.wait()
            lines = log.read_text(errors="replace").strip().splitlines()
            raise OutsideError(f"the loopback lab ended before it was ready: {lines[-1] if lines else f'it said nothing in {log}'}")
        *lines_read, text = (text + data).split(b"\n")
        for line in lines_read:
            message: dict[str, Any] = json.loads(line)
            if "failed" in message:
                raise OutsideError(message["failed"])
            if "progress" in message:
                say(message["progress"])
            if "ready" in message:
                return
