"""Where the users of a failed site go: one rule for routes of single requests; routing.reach has the same for all demand.

They enter at the nearest PoP that stands and where the law lets their data be read, since TLS ends there: by median RTT,
over the link that stands for the pair (routing.evidence) after the edits. They are who they were: the rules that held
for them hold on, wherever they enter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property

from records.errors import UnknownSite
from records.link import LinkEstimate
from records.residency import ResidencyRule
from routing.constraints import binding_residency, may_pass, subject_country
from routing.evidence import Evidence
from routing.media import rank_rtt_ns
from routing.request import Request
from routing.world import World

__all__ = ["Rehoming"]


class Rehoming:
    """Two worlds, looked at once for many requests whose source stands in the first and has failed in the second."""

    def __init__(self, before: World, after: World) -> None:
        self._before = before
        self._after = after
        self._known: dict[tuple[str, tuple[ResidencyRule, ...]], LinkEstimate | None] = {}

    @cached_property
    def _evidence(self) -> Evidence:
        return Evidence(self._after.all_links, self._after.cut)

    @cached_property
    def _of_removed(self) -> Evidence:
        """A site that was removed has left no link behind: its users know those of before."""
        return Evidence(self._before.all_links, self._after.cut)

    def leg(self, source: str, rules: Iterable[ResidencyRule] = ()) -> LinkEstimate | None:
        """The leg to the PoP where users of `source` enter under these rules; None where there is none.

        Raises UnknownSite for a site that the world before does not have.
        """
        if source not in self._before.sites:
            raise UnknownSite(source, self._before.sites)
        key = (source, tuple(rules))
        if key not in self._known:
            evidence = self._evidence if source in self._after.all_sites else self._of_removed
            sites = {**self._before.all_sites, **self._after.all_sites}
            pops = [pop for pop in self._after.sites.values() if pop.kind == "pop" and may_pass(key[1], "forward", pop, ingress=True)]
            legs = [leg for pop in pops if pop.id != source and (leg := evidence.leg(source, pop.id, sites)) is not None]
            self._known[key] = min(legs, key=lambda leg: (rank_rtt_ns(leg) or 0, leg.dst), default=None)
        return self._known[key]

    def moved(self, request: Request) -> tuple[Request, LinkEstimate] | None:
        """The request as its users ask it from where they then are, and the leg there; None where they can enter nowhere."""
        sites = self._before.sites
        leg = self.leg(request.source, binding_residency(request, sites))
        if leg is None:
            return None
        country, here = subject_country(request, sites), self._after.sites[leg.dst].country
        rules = request.residency
        if country is None and here is not None:
            # Nobody knows where they are from, so every rule holds for them; in a request that would be the new PoP's country.
            rules = tuple(replace(rule, applies_to=rule.applies_to | {here}) for rule in rules)
        return replace(request, source=leg.dst, subject_country=country, residency=rules), leg
