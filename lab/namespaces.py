"""Network namespaces as the lab's hosts: made, addressed and taken down with iproute2.

Works as root, and inside a user namespace of its own where an ordinary user may make one and may open /dev/net/tun.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lab import tun
from lab.addresses import VERSIONS, host_prefix, medium_prefix, site_address
from records.errors import NotPermitted, ToolMissing
from records.link import MEDIA

__all__ = ["NAMESPACES", "Support", "add", "configure_host", "delete", "end_processes", "existing", "inode", "processes_in", "support"]

#: Where iproute2 keeps the names of network namespaces.
NAMESPACES = Path("/run/netns")
_ENOUGH_FOR_STREAMS = "4096 262144 33554432"
_QUIET_IPV6 = {"disable_ipv6": "0", "addr_gen_mode": "1", "accept_dad": "0", "accept_ra": "0", "router_solicitations": "0"}
_ALONE = {4: 32, 6: 128}
#: Without a search for duplicates, which ends some time later, an address can be a source at once.
_AT_ONCE = {4: "", 6: " nodad"}
_EVERYTHING = {4: "0.0.0.0/0", 6: "::/0"}


@dataclass(frozen=True, slots=True)
class Support:
    """Whether this user can have namespaces here, how, and if not, why not."""

    how: Literal["root", "user-namespace"] | None
    reason: str


def support() -> Support:
    """Find out, by trying, whether the namespace lab can run here."""
    if shutil.which("ip") is None or shutil.which("nsenter") is None:
        return Support(None, "iproute2 and util-linux are needed (`apt-get install iproute2 util-linux`)")
    try:
        # Opening alone makes nothing; only so does a container's device filter show.
        os.close(os.open(tun.DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Support(None, f"{tun.DEVICE} is not open to this user ({error.strerror}); run as root on a kernel with TUN")
    if os.geteuid() == 0 and _works("unshare", "--net", "--mount", "ip", "link", "show"):
        return Support("root", "root")
    if _works("unshare", "--user", "--map-root-user", "--mount", "--net", "ip", "link", "show"):
        return Support("user-namespace", "an unprivileged user namespace")
    return Support(None, "neither root's capabilities nor unprivileged user namespaces are to be had")


def _works(*argv: str) -> bool:
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def _ip(lines: Iterable[str]) -> None:
    """Run iproute2 commands in one batch; raises NotPermitted with what it said when one fails."""
    batch = "".join(f"{line}\n" for line in lines)
    try:
        done = subprocess.run(["ip", "-batch", "-"], input=batch, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ToolMissing("the namespace lab needs iproute2; install it (`apt-get install iproute2`)") from error
    if done.returncode:
        raise NotPermitted(f"iproute2 refused to set up the lab: {done.stderr.strip()}")


def add(names: Collection[str]) -> None:
    """Make the network namespaces of those names."""
    _ip(f"netns add {name}" for name in names)


def existing(prefix: str) -> list[str]:
    """Names of the namespaces that begin with a prefix, sorted."""
    if not NAMESPACES.is_dir():
        return []
    return sorted(entry.name for entry in NAMESPACES.iterdir() if entry.name.startswith(prefix))


def delete(names: Iterable[str]) -> None:
    """Remove those namespaces; the ones that are gone already are passed over."""
    present = [name for name in names if (NAMESPACES / name).exists()]
    if present:
        _ip(f"netns delete {name}" for name in present)


def inode(name: str) -> int | None:
    """The number by which the kernel knows a namespace (``/proc/PID/ns/net``); None when it is gone."""
    try:
        return (NAMESPACES / name).stat().st_ino
    except OSError:
        return None


def configure_host(host_number: int, host_count: int) -> int:
    """Set up the namespace of the calling thread as host `host_number` (from 1) of a lab; returns its TUN.

    The host answers on its whole prefix of either IP version, reaches every other host over each medium from its own
    address of that medium, and everything else from its internet address. Raises NotPermitted.
    """
    fd = tun.open_tun()
    others = [number for number in range(1, host_count + 1) if number != host_number]
    # Nothing of IPv6's own accord: no link-local address, no search for duplicates or routers, of which there are none.
    for scope in ("all", "default", tun.NAME):
        for key, value in _QUIET_IPV6.items():
            _sysctl(f"net/ipv6/conf/{scope}/{key}", value)
    lines = ["link set lo up", f"link set {tun.NAME} txqueuelen 2000 up"]
    for version in VERSIONS:
        mine = {medium: site_address(host_number, medium, version) for medium in MEDIA}
        lines += (f"address add {address}/{_ALONE[version]} dev {tun.NAME}{_AT_ONCE[version]}" for address in mine.values())
        lines += (
            f"route add local {host_prefix(host_number, version)} dev lo",
            f"route add {_EVERYTHING[version]} dev {tun.NAME} src {mine['internet']}",
        )
        lines += (
            f"route add {medium_prefix(other, medium, version)} dev {tun.NAME} src {mine[medium]}" for other in others for medium in MEDIA
        )
    try:
        _ip(lines)
    except BaseException:
        os.close(fd)
        raise
    # Many addresses answer from one stack and all errors go to few peers: a rate limit would eat port-unreachables.
    _sysctl("net/ipv4/icmp_ratelimit", "0")
    _sysctl("net/ipv4/icmp_msgs_per_sec", "1000000")
    _sysctl("net/ipv4/icmp_msgs_burst", "100000")
    _sysctl("net/ipv6/icmp/ratelimit", "0")
    # Every group may ping without privileges; inside a user namespace only the groups that are mapped can be named.
    _sysctl("net/ipv4/ping_group_range", "0 2147483647") or _sysctl("net/ipv4/ping_group_range", "0 0")
    _sysctl("net/ipv4/conf/all/rp_filter", "0")
    _sysctl(f"net/ipv4/conf/{tun.NAME}/rp_filter", "0")
    # One stream must be able to fill a long path, and no test may inherit the window of the one before.
    _sysctl("net/ipv4/tcp_rmem", _ENOUGH_FOR_STREAMS)
    _sysctl("net/ipv4/tcp_wmem", _ENOUGH_FOR_STREAMS)
    _sysctl("net/ipv4/tcp_no_metrics_save", "1")
    return fd


def _sysctl(key: str, value: str) -> bool:
    """Set a kernel setting of the namespace; False where this kernel has none or refuses."""
    try:
        Path("/proc/sys", key).write_text(value)
    except OSError:
        return False
    return True


def processes_in(inodes: Collection[int]) -> list[int]:
    """Ids of the processes, other than this one, whose network namespace is one of those."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if pid != os.getpid() and _namespace_of(pid) in inodes]


def _namespace_of(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return None


def end_processes(inodes: Collection[int], patience_s: float = 2.0) -> int:
    """End every process inside those namespaces: SIGTERM, and SIGKILL after a while; returns how many there were.

    A process is held by a descriptor before its namespace is looked at again, so no other can be hit by mistake.
    """
    ended: set[int] = set()
    began = time.monotonic()
    while inodes and (pids := processes_in(inodes)):
        late = time.monotonic() - began > patience_s
        for pid in pids:
            if pid in ended and not late:
                continue
            try:
                handle = os.pidfd_open(pid)
            except OSError:
                continue
            try:
                if _namespace_of(pid) in inodes:
                    ended.add(pid)
                    signal.pidfd_send_signal(handle, signal.SIGKILL if late else signal.SIGTERM)
            except ProcessLookupError:
                pass
            finally:
                os.close(handle)
        if late and time.monotonic() - began > patience_s + 5:
            break
        time.sleep(0.02)
    return len(ended)
