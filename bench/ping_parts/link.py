"""A veth link of two namespaces for the ping benchmark: 10.96.0.0/30 between them, and all of 10.98.0.0/15 answers at the far end.

Nothing leaves the machine: neither namespace has another link. Only the end's own stack is between request and reply.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import struct
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FIRST = int(ipaddress.ip_address("10.98.0.1"))
_NEAR = (
    "ip link set lo up; ip addr add 10.96.0.1/30 dev near; ip link set near up; ip route add 10.98.0.0/15 via 10.96.0.2; "
    "sysctl -qw net.ipv4.ping_group_range='0 100000'"
)
_FAR = (
    "ip link set lo up; ip addr add 10.96.0.2/30 dev far; ip link set far up; ip route add local 10.98.0.0/15 dev lo; "
    "sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv4.icmp_msgs_per_sec=1000000 net.ipv4.icmp_msgs_burst=100000"
)


@dataclass(frozen=True)
class Link:
    """Where tools are started: the prefix of their command line, and the interface they send by."""

    prefix: tuple[str, ...]
    interface: str

    def command(self, argv: Sequence[str]) -> list[str]:
        return [*self.prefix, *argv]


def addresses(count: int) -> list[str]:
    """Addresses at the far end."""
    return [str(ipaddress.ip_address(_FIRST + number)) for number in range(count)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@contextlib.contextmanager
def veth() -> Iterator[Link]:
    """The link, taken down at the end. SystemExit where namespaces cannot be made."""
    if os.geteuid() != 0:
        raise SystemExit("this benchmark makes network namespaces: run it as root")
    near, far = f"isobench{os.getpid()}a", f"isobench{os.getpid()}b"
    made: list[str] = []

    def run(*argv: str) -> None:
        subprocess.run(argv, check=True, timeout=20)

    try:
        for name in (near, far):
            run("ip", "netns", "add", name)
            made.append(name)
        run("ip", "-n", near, "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", far)
        run("ip", "netns", "exec", near, "sh", "-ec", _NEAR)
        run("ip", "netns", "exec", far, "sh", "-ec", _FAR)
        yield Link(("ip", "netns", "exec", near), "near")
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], check=False, timeout=20)


@contextlib.contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """So many processes that do nothing but use the processor."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@contextlib.contextmanager
def capture(link: Link, path: Path) -> Iterator[None]:
    """A nanosecond capture of ICMP on the prober's own interface while the body runs."""
    argv = ["tcpdump", "-i", link.interface, "--time-stamp-precision=nano", "-s", "64", "-B", "65536", "-U", "-w", str(path), "icmp"]
    with subprocess.Popen(link.command(argv), stderr=subprocess.PIPE, text=True) as dump:
        assert dump.stderr is not None
        while "listening" not in dump.stderr.readline():
            if dump.poll() is not None:
                raise SystemExit("tcpdump does not run here; `apt-get install tcpdump`")
        try:
            yield
            time.sleep(1.5)  # the capture is read in blocks; immediate mode would delay the very packets it stamps
        finally:
            dump.send_signal(signal.SIGINT)
            dump.communicate(timeout=30)


def echoes(path: Path) -> dict[str, list[float]]:
    """True RTTs in ns by target, in the order sent, from a nanosecond capture of Ethernet or raw IP frames; NaN: no reply."""
    data = path.read_bytes()
    link_type = struct.unpack_from("<I", data, 20)[0]
    skip = {1: 14, 101: 0, 12: 0, 113: 16, 276: 20}[link_type]
    sent: dict[tuple[str, bytes], int] = {}
    found: dict[str, list[float]] = defaultdict(list)
    order: dict[tuple[str, bytes], int] = {}
    offset = 24
    while offset + 16 <= len(data):
        seconds, nanoseconds, kept, _ = struct.unpack_from("<IIII", data, offset)
        packet = data[offset + 16 + skip : offset + 16 + kept]
        offset += 16 + kept
        if len(packet) < 28 or packet[9] != 1:
            continue
        at_ns, key = seconds * 10**9 + nanoseconds, packet[24:28]
        if packet[20] == 8:
            target = str(ipaddress.ip_address(packet[16:20]))
            sent[target, key] = at_ns
            order[target, key] = len(found[target])
            found[target].append(float("nan"))
        elif packet[20] == 0:
            target = str(ipaddress.ip_address(packet[12:16]))
            if (target, key) in order:
                found[target][order[target, key]] = at_ns - sent[target, key]
    return found
