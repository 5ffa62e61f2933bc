"""Names and addresses: what a resolver makes of them, and link-local ones with their interface."""

from __future__ import annotations

import asyncio
import contextlib
import socket

__all__ = ["resolve", "scoped", "scoped_address"]


async def resolve(address: str) -> tuple[int, str]:
    """(IP version, numeric address) of an address or host name; the resolver's own order of preference.

    Raises socket.gaierror when there is no such host.
    """
    if not address.count(":"):
        with contextlib.suppress(OSError, ValueError):
            return 4, socket.inet_ntop(socket.AF_INET, socket.inet_pton(socket.AF_INET, address))
    try:
        found = socket.getaddrinfo(address, None, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        try:
            found = await asyncio.get_running_loop().getaddrinfo(address, None, type=socket.SOCK_DGRAM)
        except UnicodeError as malformed:  # an empty or overlong label; Python's IDNA codec refuses it before the resolver
            raise socket.gaierror(socket.EAI_NONAME, f"{address!r} is no host name") from malformed
    family, *_, sockaddr = found[0]
    if family == socket.AF_INET6 and len(sockaddr) == 4 and sockaddr[3]:
        return 6, scoped(str(sockaddr[0]), int(sockaddr[3]))
    return (4 if family == socket.AF_INET else 6), str(sockaddr[0])


def scoped(host: str, scope: int) -> str:
    """A link-local address with its interface, as people and getaddrinfo(3) write it; `scope` is the interface's number."""
    try:
        return f"{host}%{socket.if_indextoname(scope)}"
    except OSError:  # the interface is gone; nobody has asked through it lately
        return f"{host}%{scope}"


def scoped_address(host: str, port: int) -> tuple[str, int, int, int]:
    """A link-local address for a socket call, its interface as a number. Raises OSError when there is no such interface."""
    bare, _, interface = host.partition("%")
    return bare, port, 0, int(interface) if interface.isdecimal() else socket.if_nametoindex(interface)
