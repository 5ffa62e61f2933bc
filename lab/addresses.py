"""The lab's address plan, pure: who owns which address, and which medium an address stands for.

Host number h (1 for the first site of the topology) owns 10.h.0.0/16 and fd0a:h::/32; over medium number p (internet
1, backbone 2, direct-connect 3) it is reached at 10.h.p.1 and fd0a:h:p::1. The medium a packet travels over follows from
its destination, and a host's routes choose its own address of the same medium as the source, so an answer returns over
the medium of the question. Router n of medium p (from 1, in the order of the topology) answers from
10.(250 + p).(n >> 8).(n & 255) and fd0a:ff0p::n. In IPv6 addresses h and n are hexadecimal, as everywhere in them.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal

from records.link import MEDIA, Medium

if TYPE_CHECKING:
    from lab.topology import Topology

__all__ = ["MAX_ROUTERS", "MAX_SITES", "VERSIONS", "AddressPlan", "Version", "host_prefix", "medium_prefix", "pack", "site_address"]

#: Of the Internet Protocol.
Version = Literal[4, 6]
VERSIONS: tuple[Version, ...] = (4, 6)

MAX_SITES = 240
MAX_ROUTERS = (1 << 16) - 2
_ROUTERS_FROM = 250
_ROUTERS_FROM_6 = 0xFF00
_PLANE = {medium: number for number, medium in enumerate(MEDIA, start=1)}


def pack(address: str) -> bytes:
    """An address as four bytes, or sixteen.

    >>> pack("10.1.2.3").hex(), pack("fd0a:e:3::1").hex()
    ('0a010203', 'fd0a000e000300000000000000000001')
    """
    return ip_address(address).packed


def site_address(host_number: int, medium: Medium, version: Version = 4) -> str:
    """Where a host is reached over a medium.

    >>> site_address(1, "internet"), site_address(14, "direct-connect"), site_address(14, "direct-connect", 6)
    ('10.1.1.1', '10.14.3.1', 'fd0a:e:3::1')
    """
    plane = _PLANE[medium]
    return f"10.{host_number}.{plane}.1" if version == 4 else f"fd0a:{host_number:x}:{plane:x}::1"


def medium_prefix(host_number: int, medium: Medium, version: Version = 4) -> str:
    """The addresses of a host that are reached over a medium.

    >>> medium_prefix(14, "backbone"), medium_prefix(14, "backbone", 6)
    ('10.14.2.0/24', 'fd0a:e:2::/48')
    """
    plane = _PLANE[medium]
    return f"10.{host_number}.{plane}.0/24" if version == 4 else f"fd0a:{host_number:x}:{plane:x}::/48"


def host_prefix(host_number: int, version: Version = 4) -> str:
    """All addresses of a host.

    >>> host_prefix(14), host_prefix(14, 6)
    ('10.14.0.0/16', 'fd0a:e::/32')
    """
    return f"10.{host_number}.0.0/16" if version == 4 else f"fd0a:{host_number:x}::/32"


class AddressPlan:
    """Addresses of one topology, both ways: node -> address, packed address -> node."""

    def __init__(self, topology: Topology) -> None:
        self.site_ids = tuple(site.id for site in topology.sites)
        self.host_number = {site_id: number for number, site_id in enumerate(self.site_ids, start=1)}
        self.router_address: dict[str, str] = {}
        self.router_address_6: dict[str, str] = {}
        counts = dict.fromkeys(MEDIA, 0)
        for router in topology.routers:
            counts[router.medium] += 1
            n, plane = counts[router.medium], _PLANE[router.medium]
            self.router_address[router.id] = f"10.{_ROUTERS_FROM + plane}.{n >> 8}.{n & 255}"
            self.router_address_6[router.id] = f"fd0a:{_ROUTERS_FROM_6 + plane:x}::{n:x}"
        self._router_medium = {router.id: router.medium for router in topology.routers}
        self._packed: dict[tuple[str, Medium, Version], bytes] = {}
        both = (self.router_address, self.router_address_6)
        self._router_at = {pack(address): router for addresses in both for router, address in addresses.items()}

    def of_site(self, site_id: str, medium: Medium, version: Version = 4) -> str:
        """The site's address over a medium."""
        return site_address(self.host_number[site_id], medium, version)

    def of_node(self, node: str, medium: Medium, version: Version = 4) -> str:
        """A site's or router's address over a medium."""
        routers = self.router_address if version == 4 else self.router_address_6
        return routers[node] if node in routers else self.of_site(node, medium, version)

    def packed(self, node: str, medium: Medium, version: Version) -> bytes:
        """The same packed; remembered, because a router speaks often."""
        key = (node, medium, version)
        if key not in self._packed:
            self._packed[key] = pack(self.of_node(node, medium, version))
        return self._packed[key]

    def locate(self, address: bytes) -> tuple[str, Medium] | None:
        """The node that owns a packed address of either version and the medium it stands for; None when nobody does.

        An address of a host that names no medium counts as its internet.
        """
        if len(address) == 4:
            ours, host, plane = address[0] == 10, address[1], address[2]
        else:
            ours = address[:2] == b"\xfd\x0a"
            host, plane = int.from_bytes(address[2:4], "big"), int.from_bytes(address[4:6], "big")
        if not ours:
            return None
        if 1 <= host <= len(self.site_ids):
            return self.site_ids[host - 1], MEDIA[plane - 1] if 1 <= plane <= len(MEDIA) else "internet"
        router = self._router_at.get(bytes(address))
        return None if router is None else (router, self._router_medium[router])
