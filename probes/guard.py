"""Keeps what is measured inside the policy, also behind a name: it is looked up first, and every address it leads to is asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from probes.hosts import parse_ip
from probes.policy import Policy
from probes.resolve import ResolveFailed, Resolver
from records.errors import NotPermitted
from records.units import SECOND

__all__ = ["Guard", "OptedOut"]

_RESOLVED_FOR_NS = 60 * SECOND
_LOOK_UP_S = 10.0
#: Names remembered; more are looked up again when they are due.
_MOST_NAMES = 10_000

_Found = tuple[IPv4Address | IPv6Address, ...]


class OptedOut(Exception):
    """A host of the target is on the opt-out list: nothing is sent to it, and that is no failure."""


@dataclass(frozen=True, slots=True)
class _Known:
    until_ns: int
    found: _Found


class Guard:
    """Asks the policy for each host before each measurement; a name's addresses are remembered for a minute.

    The probe looks the name up itself later; a name whose answer changes in between is beyond this check.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._known: dict[str, _Known] = {}
        self._resolver = Resolver()

    async def check(self, hosts: Iterable[str]) -> IPv4Address | IPv6Address | None:
        """The address that the first of the hosts is or leads to; None where its name has none just now.

        Raises OptedOut, and NotPermitted when a name leads to an address that must not be measured.
        """
        first: list[_Found] = []
        for host in hosts:
            if (entry := self.policy.opt_out_entry(host)) is not None:
                raise OptedOut(f"{host} opted out ({entry})")
            if (reason := self.policy.refuse_name(host) if parse_ip(host) is None else None) is not None:
                raise NotPermitted(reason)
            found = await self._addresses(host)
            is_name_allowed = self.policy.allowed is not None and self.policy.allowed.name_entry(host) is not None
            for address in found:
                if (entry := self.policy.opt_out_entry(str(address))) is not None:
                    raise OptedOut(f"{host} leads to {address}, which opted out ({entry})")
                if (reason := self.policy.refuse_address(address, is_name_allowed=is_name_allowed)) is not None:
                    raise NotPermitted(f"{host} leads to a refused address: {reason}")
            first.append(found)
        return first[0][0] if first and first[0] else None

    def close(self) -> None:
        """Let the look-ups' threads end."""
        self._resolver.close()

    async def _addresses(self, host: str) -> _Found:
        if (address := parse_ip(host)) is not None:
            return (address,)
        now_ns = time.monotonic_ns()
        known = self._known.get(host)
        if known is not None and now_ns < known.until_ns:
            return known.found
        try:
            async with asyncio.timeout(_LOOK_UP_S):
                answer = await self._resolver.resolve(host, 0)
        except (ResolveFailed, TimeoutError):
            return ()  # a name without an address is the probe's result, not ours
        texts = (str(address[0]).partition("%")[0] for _, address in answer.found)
        found = tuple(dict.fromkeys(parsed for text in texts if (parsed := parse_ip(text)) is not None))
        if len(self._known) >= _MOST_NAMES:
            self._known.clear()
        self._known[host] = _Known(now_ns + _RESOLVED_FOR_NS, found)
        return found
