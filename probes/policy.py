"""Which addresses an agent may send to: a probe network must not be turned against its own hosts or the public. Pure."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

__all__ = ["is_host_name", "parse_ip", "refusal"]

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*\.?")


def parse_ip(text: str) -> IPv4Address | IPv6Address | None:
    """The address a text is, or None when it is none (then it may be a host name)."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def is_host_name(text: str) -> bool:
    """Whether a text has the form of a host name (RFC 1123, underscores allowed) and is not a misspelt IPv4 address.

    >>> is_host_name("ec2.eu-west-1.amazonaws.com"), is_host_name("10.0.0.256"), is_host_name("a b")
    (True, False, False)
    """
    return _HOST_NAME.fullmatch(text) is not None and not re.fullmatch(r"[0-9.]+", text)


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
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        address = mapped
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
