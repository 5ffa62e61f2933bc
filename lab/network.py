"""The network of one topology as it is now: links, routers and routes, how they are changed, and what they have counted. Pure."""

from __future__ import annotations

from dataclasses import asdict
from difflib import get_close_matches
from typing import Literal

from lab.addresses import AddressPlan
from lab.congestion import Load
from lab.links import Change, LinkState
from lab.observed import merged, summary
from lab.paths import PathFinder
from lab.routers import RouterChange, RouterState
from lab.routes import RouteTable
from lab.topology import Link, LinkKey, Router, Topology
from records.errors import UserError
from records.link import Medium

__all__ = ["Network"]


class Network:
    """Links, routers and routes. `accepted`, `delivered` and `refused` count packets of hosts, and all that were delivered."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.plan = AddressPlan(topology)
        self.states = {link.key: LinkState(link) for link in topology.links}
        self.routers = {router.id: RouterState(router) for router in topology.routers}
        self.finder = PathFinder(topology, lambda link: self.states[link.key].up, lambda link: self.states[link.key].weight)
        self.table = RouteTable(self.plan, self.states, self.finder)
        self.accepted = self.delivered = self.refused = 0

    def change(self, src: str, dst: str, medium: Medium | None, change: Change) -> None:
        """Change the directed link src -> dst from now on; packets already past it are not touched.

        Raises UserError when there is no such link, or several over different media and `medium` does not say which.
        """
        found = [key for key in self.states if key[:2] == (src, dst) and medium in (None, key[2])]
        if len(found) != 1:
            if found:
                raise UserError(f"{src} and {dst} are joined over {', '.join(key[2] for key in found)}; say which medium")
            near = sorted({key[1] for key in self.states if key[0] == src})
            hint = f"{src} is joined to {', '.join(near)}" if near else f"there is no site or router {src!r}"
            raise UserError(f"there is no link from {src!r} to {dst!r}; {hint}")
        self._apply([self.states[found[0]]], change)

    def change_site(self, site: str, op: Literal["fail", "restore"]) -> None:
        """Fail or restore all links of a site at once, in both directions; raises UnknownSite."""
        site = self.topology.site(site).id
        if op not in ("fail", "restore"):
            raise UserError(f"cannot {op!r} a site; fail or restore it")
        self._apply([state for key, state in self.states.items() if site in key[:2]], Change(op=op))

    def change_router(self, router: str, change: RouterChange) -> None:
        """Change a router from now on; raises UserError naming the routers most alike."""
        if router not in self.routers:
            near = get_close_matches(router, self.routers, n=3)
            raise UserError(f"there is no router {router!r}" + (f"; did you mean {', '.join(near)}" if near else ""))
        self.routers[router].change(change)

    def _apply(self, states: list[LinkState], change: Change) -> None:
        before = [(state.up, state.weight) for state in states]
        for state in states:
            state.change(change)
        if before == [(state.up, state.weight) for state in states]:
            self.table.epoch += 1
        else:
            self.finder.forget()
            self.forget_routes()

    def congest(self, key: LinkKey, load: Load) -> None:
        """Put a load on a directed link, in place of the one before; paths stay as they are."""
        self.states[key].congest(load)
        self.table.epoch += 1

    def forget_routes(self) -> None:
        """Find all routes anew."""
        self.table.forget()

    def changed(self) -> list[tuple[bool, Link]]:
        """Every link that is not as the topology says: whether it is up, and its values now."""
        return [(state.up, state.current()) for state in self.states.values() if not state.up or state.current() != state.configured]

    def changed_routers(self) -> list[Router]:
        """Every router that is not as the topology says, as it is now."""
        return [state.current() for state in self.routers.values() if state.current() != state.configured]

    def report(self) -> dict[str, object]:
        """Counts of packets, every link that carried, lost or dropped any, every router that sent ICMP; ready for JSON.

        `observed` is what the stamps say of all packets that were delivered, see lab.observed.
        """
        self.table.settle()
        links = [
            {"src": src, "dst": dst, "medium": medium, "up": state.up, **asdict(state.counters)}
            for (src, dst, medium), state in self.states.items()
            if not state.up or any(asdict(state.counters).values())
        ]
        counted = ((router, asdict(state.counters)) for router, state in self.routers.items())
        return {
            "accepted": self.accepted,
            "delivered": self.delivered,
            "refused": self.refused,
            "links": links,
            "routers": [{"router": router, **counts} for router, counts in counted if any(counts.values())],
            "observed": summary(merged(self.table.tallies.values())),
        }

    def observed(self, src: str | None) -> list[dict[str, object]]:
        """What the stamps say of the packets of a site, by destination, medium and IP version; None: of routers' answers."""
        return [
            {"src": pair_src, "dst": dst, "medium": medium, "version": version, **summary(tally)}
            for (pair_src, dst, medium, version), tally in self.table.tallies.items()
            if pair_src == src and tally.count
        ]
