"""A veth link of two namespaces for the ping benchmark: 10.96.0.0/30 between them, and all of 10.98.0.0/15 answers at the far end.

Nothing leaves the machine: neither namespace has another link. Only the end's own stack is between request and reply.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from capture import capture as capture_of
from capture import packets

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


def capture(link: Link, path: Path) -> contextlib.AbstractContextManager[None]:
    """A nanosecond capture of ICMP on the prober's own interface while the body runs."""
    return capture_of(link.command, path, interface=link.interface, keep="icmp")


def echoes(path: Path) -> dict[str, list[float]]:
    """True RTTs in ns by target, in the order sent, from a nanosecond capture; NaN: no reply."""
    sent: dict[tuple[str, bytes], int] = {}
    found: dict[str, list[float]] = defaultdict(list)
    order: dict[tuple[str, bytes], int] = {}
    for at_ns, packet in packets(path):
        if len(packet) < 28 or packet[9] != 1:
            continue
        key = packet[24:28]
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
