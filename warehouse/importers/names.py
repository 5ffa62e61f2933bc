"""Which site a host is at: by what the user says, by the addresses of SITES.csv, by the hosts and names of the inventory. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from warehouse.importers.found import normal

__all__ = ["Names"]

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(slots=True)
class Names:
    """Names of hosts -> site ids.

    sites    ids that are known
    hosts    address, network (CIDR), host name or other name of a file -> site id; the most exact network wins
    resolve  site id for a name that is no id, such as a zone or an alias; None where it knows none
    """

    sites: frozenset[str]
    hosts: Mapping[str, str] = field(default_factory=dict)
    resolve: Callable[[str], str | None] | None = None
    _exact: dict[str, str] = field(init=False)
    _networks: list[tuple[_Network, str]] = field(init=False)
    _found: dict[str, str | None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._exact, networks = {}, []
        for name, site in self.hosts.items():
            network = _network(name)
            if network is None:
                self._exact[normal(name)] = site
            else:
                networks.append((network, site))
        self._networks = sorted(networks, key=lambda pair: -pair[0].prefixlen)

    def site(self, names: Iterable[str]) -> str | None:
        """The site of the first of the names that has one."""
        for name in names:
            if name not in self._found:
                self._found[name] = self._look_up(name)
            if (site := self._found[name]) is not None:
                return site
        return None

    def _look_up(self, name: str) -> str | None:
        plain = normal(name)
        if plain in self._exact:
            return self._exact[plain]
        try:
            address = ipaddress.ip_address(plain)
        except ValueError:
            if name in self.sites:
                return name
            site = self.resolve(name) if self.resolve is not None else None
            return site if site in self.sites else None
        return next((site for network, site in self._networks if address in network), None)


def _network(name: str) -> _Network | None:
    if "/" not in name:
        return None
    try:
        return ipaddress.ip_network(name, strict=False)
    except ValueError:
        return None
