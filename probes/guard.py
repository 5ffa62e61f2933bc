"""Keeps what is measured inside the policy, also behind a name: it is looked up first, and every address it leads to is asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from probes.hosts import parse_ip
from probes.policy import Policy, network_of
from probes.resolve import ResolveFailed, Resolver
from records.errors import NotPermitted
from records.units import SECOND

__all__ = ["Guard", "OptedOut"]

_RESOLVED_FOR_NS = 60 * SECOND
_LOOK_UP_S = 10.0
#: Hosts remembered; beyond that all are asked for again.
_MOST_HOSTS = 10_000

_Found = tuple[IPv4Address | IPv6Address, ...]


class OptedOut(Exception):
    """A host of the target is on the opt-out list: nothing is sent to it, and that is no failure."""


@dataclass(frozen=True, slots=True)
class Leads:
    """Where a host leads: its first address and that one's network; None where its name has no address just now."""

    address: str | None
    network: str | None


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found of a host, until when it holds (None: for as long as the policy does), and why it is not measured."""

    leads: Leads
    until_ns: int | None
    refused: OptedOut | NotPermitted | None


class Guard:
    """Asks the policy for each host before each measurement; what it found of a name is remembered for a minute.

    The probe looks the name up itself later; a name whose answer changes in between is beyond this check.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._known: dict[str, _Known] = {}
        self._resolver = Resolver()

    def change(self, policy: Policy) -> None:
        """Ask another policy from now on."""
        self._policy = policy
        self._known.clear()

    async def check(self, hosts: Iterable[str]) -> Leads:
        """Where the first of the hosts leads. Raises OptedOut, and NotPermitted when one leads where nothing may be measured."""
        leads = []
        for host in hosts:
            known = self._known.get(host)
            if known is None or (known.until_ns is not None and known.until_ns <= time.monotonic_ns()):
                known = await self._find_out(host)
            if known.refused is not None:
                raise known.refused.with_traceback(None)
            leads.append(known.leads)
        return leads[0]

    def close(self) -> None:
        """Let the look-ups' threads end."""
        self._resolver.close()

    async def _find_out(self, host: str) -> _Known:
        policy = self._policy
        literal = parse_ip(host)
        found = (literal,) if literal is not None else await self._look_up(host)
        first = found[0] if found else None
        leads = Leads(None, None) if first is None else Leads(str(first), network_of(first))
        known = _Known(leads, None if literal is not None else time.monotonic_ns() + _RESOLVED_FOR_NS, _refusal(policy, host, found))
        if not found and known.refused is None:
            return known  # asked again the next time
        if len(self._known) >= _MOST_HOSTS:
            self._known.clear()
        if policy is self._policy:
            self._known[host] = known
        return known

    async def _look_up(self, host: str) -> _Found:
        try:
            async with asyncio.timeout(_LOOK_UP_S):
                answer = await self._resolver.resolve(host, 0)
        except (ResolveFailed, TimeoutError):
            return ()  # a name without an address is the probe's result, not ours
        texts = (str(address[0]).partition("%")[0] for _, address in answer.found)
        return tuple(dict.fromkeys(parsed for text in texts if (parsed := parse_ip(text)) is not None))


def _refusal(policy: Policy, host: str, found: _Found) -> OptedOut | NotPermitted | None:
    """Why a host is not to be measured, by its name and by every address it leads to."""
    if (entry := policy.opt_out_entry(host)) is not None:
        return OptedOut(f"{host} opted out ({entry})")
    is_name = parse_ip(host) is None
    if is_name and (reason := policy.refuse_name(host)) is not None:
        return NotPermitted(reason)
    is_name_allowed = is_name and policy.allowed is not None and policy.allowed.name_entry(host) is not None
    for address in found:
        if (entry := policy.opted_out.address_entry(address)) is not None:
            return OptedOut(f"{host} leads to {address}, which opted out ({entry})")
        if (reason := policy.refuse_address(address, is_name_allowed=is_name_allowed)) is not None:
            return NotPermitted(f"{host} leads to a refused address: {reason}")
    return None
