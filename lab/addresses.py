"""The lab's address plan, pure: who owns which IPv4 address, and which medium an address stands for.

Host number h (1 for the first site of the topology) owns 10.h.0.0/16; over medium number p (internet 1, backbone 2,
direct-connect 3) it is reached at 10.h.p.1. The medium a packet travels over follows from its destination, and a
host's routes choose its own address of the same medium as the source, so an answer returns over the medium of the
question. Router n of medium p (from 1, in the order of the topology) answers from 10.(250 + p).(n >> 8).(n & 255).
"""

from __future__ import annotations

from lab.topology import Topology
from records.link import MEDIA, Medium

__all__ = ["MAX_ROUTERS", "MAX_SITES", "AddressPlan", "pack", "site_address"]

MAX_SITES = 240
MAX_ROUTERS = (1 << 16) - 2
_ROUTERS_FROM = 250
_PLANE = {medium: number for number, medium in enumerate(MEDIA, start=1)}


def pack(address: str) -> bytes:
    """A dotted IPv4 address as four bytes.

    >>> pack("10.1.2.3").hex()
    '0a010203'
    """
    return bytes(int(part) for part in address.split("."))


def site_address(host_number: int, medium: Medium) -> str:
    """Where a host is reached over a medium.

    >>> site_address(1, "internet"), site_address(14, "direct-connect")
    ('10.1.1.1', '10.14.3.1')
    """
    return f"10.{host_number}.{_PLANE[medium]}.1"


class AddressPlan:
    """Addresses of one topology, both ways: node -> address, packed address -> node."""

    def __init__(self, topology: Topology) -> None:
        self.site_ids = tuple(site.id for site in topology.sites)
        self.host_number = {site_id: number for number, site_id in enumerate(self.site_ids, start=1)}
        self.router_address: dict[str, str] = {}
        counts = dict.fromkeys(MEDIA, 0)
        for router in topology.routers:
            counts[router.medium] += 1
            n = counts[router.medium]
            self.router_address[router.id] = f"10.{_ROUTERS_FROM + _PLANE[router.medium]}.{n >> 8}.{n & 255}"
        self._router_medium = {router.id: router.medium for router in topology.routers}
        self._router_at = {pack(address): router for router, address in self.router_address.items()}

    def of_site(self, site_id: str, medium: Medium) -> str:
        """The site's address over a medium."""
        return site_address(self.host_number[site_id], medium)

    def of_node(self, node: str, medium: Medium) -> str:
        """A site's or router's address over a medium."""
        return self.router_address[node] if node in self.router_address else self.of_site(node, medium)

    def locate(self, address: bytes) -> tuple[str, Medium] | None:
        """The node that owns a packed address and the medium it stands for; None when nobody owns it.

        An address in a host's /16 that names no medium counts as its internet.
        """
        if address[0] != 10:
            return None
        if 1 <= address[1] <= len(self.site_ids):
            plane = address[2]
            return self.site_ids[address[1] - 1], MEDIA[plane - 1] if 1 <= plane <= len(MEDIA) else "internet"
        router = self._router_at.get(bytes(address))
        return None if router is None else (router, self._router_medium[router])
