"""Hosts as text: what is an address, what a name; and lists of addresses, prefixes and names, one a line. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from records.errors import ConfigError

__all__ = ["HostList", "is_host_name", "parse_ip"]

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


class HostList:
    """Matches addresses by prefix and names by themselves or a name above them.

    entries  as in a file: ``203.0.113.0/24``, ``2001:db8::/32``, ``198.51.100.7``, ``example.org`` (it and every name
             below it), ``*.example.org`` (only those below it)

    Raises ConfigError for an entry that is none of these. Matching takes one look-up for each prefix length that occurs.
    """

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self._networks: dict[tuple[int, int], set[int]] = {}
        self._names: set[str] = set()
        self._below: set[str] = set()
        for entry in entries:
            self._add(entry)

    @classmethod
    def parse(cls, text: str, where: str) -> HostList:
        """The entries of a file's text: one a line, ``#`` begins a comment. Raises ConfigError with the line."""
        found = cls()
        for number, line in enumerate(text.splitlines(), 1):
            entry = line.partition("#")[0].strip()
            try:
                if entry:
                    found._add(entry)
            except ConfigError as error:
                raise ConfigError(f"{where}:{number}: {error}") from None
        return found

    def __len__(self) -> int:
        return sum(map(len, self._networks.values())) + len(self._names) + len(self._below)

    @property
    def has_networks(self) -> bool:
        """There is an address or a prefix on it."""
        return bool(self._networks)

    def address_entry(self, address: IPv4Address | IPv6Address) -> str | None:
        """The longest prefix of the list that holds an address; None when none does. An IPv4 address in IPv6 is that address."""
        address = getattr(address, "ipv4_mapped", None) or address
        bits, number = address.max_prefixlen, int(address)
        for version, length in sorted(self._networks, reverse=True):
            if version == address.version and (found := number >> (bits - length)) in self._networks[version, length]:
                return f"{type(address)(found << (bits - length))}/{length}"
        return None

    def name_entry(self, name: str) -> str | None:
        """The entry that a host name falls under; None when there is none.

        >>> HostList(["example.org"]).name_entry("WWW.Example.org."), HostList(["*.example.org"]).name_entry("example.org")
        ('example.org', None)
        """
        labels = _plain(name).split(".")
        for cut in range(len(labels)):
            above = ".".join(labels[cut:])
            if above in self._names:
                return above
            if cut and above in self._below:
                return f"*.{above}"
        return None

    def _add(self, entry: str) -> None:
        try:
            network: IPv4Network | IPv6Network = ip_network(entry, strict=True)
        except ValueError as error:
            if "host bits set" in str(error):
                raise ConfigError(f"{entry!r} has bits set beyond its length; the prefix is {ip_network(entry, strict=False)}") from None
        else:
            bits, length = network.max_prefixlen, network.prefixlen
            self._networks.setdefault((network.version, length), set()).add(int(network.network_address) >> (bits - length))
            return
        is_below = entry.startswith("*.")
        name = _plain(entry.removeprefix("*."))
        if not is_host_name(name):
            raise ConfigError(f"{entry!r} is no address, prefix or host name; write one such as 203.0.113.0/24 or example.org")
        (self._below if is_below else self._names).add(name)


def _plain(name: str) -> str:
    return name.lower().rstrip(".")
