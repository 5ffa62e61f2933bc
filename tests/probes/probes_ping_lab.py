"""A chain of Linux namespaces for the tests of ping and traceroute: src - r1 - r2 - r3 - dst, with real routers.

Link i (from 0) is 10.97.i.0/30 and fd97:i::/64, .1 and ::1 towards src. dst answers for all of 10.98.0.0/16 and
fd98::/64; 10.99.0.0/16 and fd99::/64 are routed to dst, which has nothing there. Nothing leaves the machine: the
namespaces have no link to it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
#: ICMP rate limits off, so that a router answers whenever a test asks.
SETTINGS = (
    "net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.icmp_ratelimit=0 net.ipv4.icmp_msgs_per_sec=100000 "
    "net.ipv4.icmp_msgs_burst=10000 net.ipv6.icmp.ratelimit=0 net.ipv6.conf.default.accept_dad=0 net.ipv4.conf.all.rp_filter=0"
)
ORDINARY_USER = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set=-all", "--no-new-privs"]
_serial = itertools.count()


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def why_not() -> str | None:
    """Why namespaces cannot be made here; None when they can."""
    if os.geteuid() != 0:
        return "needs root to make network namespaces"
    name = f"iso{os.getpid()}w{next(_serial)}"
    try:
        run("ip", "netns", "add", name)
        run("ip", "netns", "del", name)
    except (RuntimeError, OSError) as refused:
        return f"cannot make network namespaces: {refused}"
    return None


class Chain:
    """`routers` router namespaces in a row between src and dst."""

    def __init__(self, routers: int = 3) -> None:
        tag = f"iso{os.getpid()}n{next(_serial)}"
        self.names = [f"{tag}{role}" for role in ("src", *(f"r{n + 1}" for n in range(routers)), "dst")]
        self.src, self.dst = self.names[0], self.names[-1]
        # Each hop answers from its side towards src.
        self.hops_v4 = [f"10.97.{link}.2" for link in range(routers)]
        self.hops_v6 = [str(ipaddress.ip_address(f"fd97:{link:x}::2")) for link in range(routers)]
        self.targets_v4 = [str(address) for address in itertools.islice(ipaddress.ip_network("10.98.0.0/16").hosts(), 500)]
        self.target_v6 = "fd98::1"

    def up(self) -> None:
        last = len(self.names) - 1
        for name in self.names:
            run("ip", "netns", "add", name)
            self.sh(name, f"ip link set lo up; sysctl -qw {SETTINGS}")
        for link in range(last):
            near, far = self.names[link], self.names[link + 1]
            run("ip", "-n", near, "link", "add", f"d{link}", "type", "veth", "peer", "name", f"u{link}", "netns", far)
            for name, device, end in ((near, f"d{link}", 1), (far, f"u{link}", 2)):
                self.sh(name, f"ip addr add 10.97.{link}.{end}/30 dev {device}; ip link set {device} up")
                self.sh(name, f"ip -6 addr add fd97:{link:x}::{end}/64 dev {device} nodad")
        for place, name in enumerate(self.names):
            if place < last:
                self.sh(name, f"ip route add 10.98.0.0/15 via 10.97.{place}.2")
                self.sh(name, f"ip -6 route add fd98::/64 via fd97:{place:x}::2; ip -6 route add fd99::/64 via fd97:{place:x}::2")
            for link in range(place - 1):
                self.sh(name, f"ip route add 10.97.{link}.0/30 via 10.97.{place - 1}.1")
                self.sh(name, f"ip -6 route add fd97:{link:x}::/64 via fd97:{place - 1:x}::1")
        self.sh(self.dst, "ip route add local 10.98.0.0/16 dev lo; ip -6 route add local fd98::/64 dev lo")

    def silence(self, name: str) -> None:
        """Have a router say nothing of its own to src, as many real ones do."""
        self.sh(name, "ip rule add pref 10 iif lo to 10.97.0.0/30 blackhole")

    def allow_ping_sockets(self, name: str) -> None:
        self.sh(name, "sysctl -qw net.ipv4.ping_group_range='0 100000'")

    def down(self) -> None:
        for name in self.names:
            with contextlib.suppress(RuntimeError):
                run("ip", "netns", "del", name)

    def sh(self, name: str, script: str) -> str:
        return run("ip", "netns", "exec", name, "sh", "-ec", script)

    def python(self, name: str, script: str, *args: str, is_ordinary_user: bool = False) -> Any:
        """Run a script in a namespace, as nobody without any capability if asked; its last line is JSON."""
        command = ["ip", "netns", "exec", name, *(ORDINARY_USER if is_ordinary_user else [])]
        done = subprocess.run(
            [*command, sys.executable, "-c", script, *args],
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        if done.returncode:
            raise AssertionError(f"script in {name} failed:\n{done.stdout}\n{done.stderr}")
        return json.loads(done.stdout.strip().splitlines()[-1])


@contextlib.contextmanager
def chain(routers: int = 3) -> Iterator[Chain]:
    lab = Chain(routers)
    try:
        lab.up()
        yield lab
    finally:
        lab.down()
