"""Who serves whom when a site fails: the best route of many requests before and after, without all that an answer says beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from records.link import LinkEstimate
from routing.cost import EgressPrices
from routing.edits import FailSite
from routing.handshakes import HANDSHAKE_ROUND_TRIPS
from routing.media import rank_rtt_ns
from routing.planner import no_price
from routing.rehoming import Rehoming
from routing.request import Request
from routing.scenario import Scenario, apply, planner_of
from routing.world import World

__all__ = ["Effect", "Failure", "Served", "Serving", "State"]

State = Literal["unchanged", "another way", "moved", "re-homed", "lost"]


@dataclass(frozen=True, slots=True)
class Served:
    """The best route of a request: its sites, the serving one last, and its median TTFT in ns."""

    sites: tuple[str, ...]
    ttft_p50_ns: float


class Serving:
    """A world made ready once; each request is planned once, however often it is asked for."""

    def __init__(self, world: World, *, egress: EgressPrices = no_price, seed: int = 0, snapshot: int | None = None) -> None:
        self.world = world
        self.egress = egress
        self.seed = seed
        self.snapshot = snapshot
        self._planner = planner_of(world, egress, seed, snapshot)
        self._known: dict[Request, Served | None] = {}

    def best(self, request: Request) -> Served | None:
        """The first route of `Planner.plan`; None where nobody may or can serve the request."""
        if request not in self._known:
            found = self._planner.best(request)
            self._known[request] = None if found is None else Served(found.path.sites, found.ttft_p50_ns)
        return self._known[request]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A request before and after the loss of a site, as routing.scenario.what_ifs has it for the first routes.

    rehome    the leg by which users of the failed site reach their next PoP; None where the source stands
    delta_ns  what the loss adds to the median TTFT, that leg included; None where one of the two has no route
    """

    before: Served | None
    after: Served | None
    rehome: LinkEstimate | None
    delta_ns: float | None

    @property
    def state(self) -> State:
        """What became of the request; what was served by nobody before is unchanged."""
        if self.before is not None and self.after is None:
            return "lost"
        if self.rehome is not None:
            return "re-homed"
        if self.before is None or self.after is None:
            return "unchanged"
        if self.before.sites[-1] != self.after.sites[-1]:
            return "moved"
        return "another way" if self.delta_ns else "unchanged"


class Failure:
    """What the loss of one site does to requests that any site may serve; made ready once, for requests of any workload.

    A loss takes ways away and makes none: a request that does not come from the site, and whose best route does not touch
    it, keeps that route and is not planned again. Raises UnknownSite for a site the world does not have.
    """

    def __init__(self, site: str, before: Serving) -> None:
        changed = apply(Scenario(name=f"fail {site}", edits=(FailSite(site),)), before.world)
        self.site = site
        self.before = before
        self.after = Serving(changed, egress=before.egress, seed=before.seed, snapshot=before.snapshot)
        self._rehoming = Rehoming(before.world, changed)

    def effect(self, request: Request) -> Effect:
        """What it does to one request."""
        was = self.before.best(request)
        if request.source != self.site:
            if was is None or self.site not in was.sites:
                return Effect(before=was, after=was, rehome=None, delta_ns=None if was is None else 0.0)
            now, extra_ns, by = self.after.best(request), 0.0, None
        else:
            found = self._rehoming.moved(request)
            if found is None:
                return Effect(before=was, after=None, rehome=None, delta_ns=None)
            moved, by = found
            now = self.after.best(moved)
            extra_ns = (rank_rtt_ns(by) or 0) * (1.0 + HANDSHAKE_ROUND_TRIPS[request.connection])
        delta_ns = None if was is None or now is None else now.ttft_p50_ns + extra_ns - was.ttft_p50_ns
        return Effect(before=was, after=now, rehome=by, delta_ns=delta_ns)
