"""Which addresses an agent may send to: a probe network must not be turned against its own hosts or the public. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network

from probes.hosts import HostList, is_host_name, parse_ip

__all__ = ["Policy", "is_host_name", "network_of", "parse_ip", "refusal"]

_NAT64 = IPv6Network("64:ff9b::/96")


def network_of(address: IPv4Address | IPv6Address) -> str:
    """The network that shares a cap: the IPv4 /24 or the IPv6 /48 of an address.

    >>> network_of(IPv4Address("198.51.100.7")), network_of(IPv6Address("2001:db8:1:2::3"))
    ('198.51.100.0/24', '2001:db8:1::/48')
    """
    address = getattr(address, "ipv4_mapped", None) or address
    return str(ip_network((address, 24 if address.version == 4 else 48), strict=False))


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address a packet to an IPv6 address ends up at: mapped, 6to4 (RFC 3056) and NAT64 (RFC 6052)."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def refusal(address: IPv4Address | IPv6Address, *, is_private_allowed: bool) -> str | None:
    """Why probe packets must not go to an address; None when they may.

    Multicast, broadcast and the unspecified address are refused always (one packet in, many out); everything that is
    not globally routable (private, loopback, link-local, shared, documentation; IANA special-purpose registries) only
    unless the configuration allows it.

    >>> refusal(IPv4Address("10.0.0.1"), is_private_allowed=False)
    'private'
    >>> refusal(IPv4Address("10.0.0.1"), is_private_allowed=True) is None
    True
    """
    address = _embedded(address) or address
    if address.is_multicast:
        return "multicast"
    if address.is_unspecified or address == IPv4Address("255.255.255.255"):
        return "unspecified or broadcast"
    if is_private_allowed or address.is_global:
        return None
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    return "private" if address.is_private else "not globally routable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Whom an agent may measure: where addresses may lie, the list of those allowed (None: no list), those who opted out."""

    is_private_allowed: bool
    allowed: HostList | None
    opted_out: HostList

    def refuse_address(self, address: IPv4Address | IPv6Address, *, is_name_allowed: bool = False) -> str | None:
        """Why an address is not to be measured, what to do, as a sentence; None when it may be. Opting out is asked apart.

        is_name_allowed  the list of those allowed holds the name that leads here
        """
        reason = refusal(address, is_private_allowed=self.is_private_allowed)
        if reason is not None:
            is_never = reason in {"multicast", "unspecified or broadcast"}
            return f"address {address} is {reason}; " + (
                "no agent sends there" if is_never else "allow it with agent.allow_private_targets"
            )
        if self.allowed is not None and not is_name_allowed and self.allowed.address_entry(address) is None:
            return f"address {address} is not on the list of policy.allow_file; add it there to measure it"
        return None

    def refuse_name(self, name: str) -> str | None:
        """The same of a host name, before it is looked up: a name on no list may still lead to an address that is on it."""
        if self.allowed is not None and not self.allowed.has_networks and self.allowed.name_entry(name) is None:
            return f"{name} is not on the list of policy.allow_file; add it there to measure it"
        return None

    def opt_out_entry(self, host: str) -> str | None:
        """The entry of the opt-out list that an address or a name falls under; None when there is none."""
        address = parse_ip(host)
        return self.opted_out.name_entry(host) if address is None else self.opted_out.address_entry(address)
