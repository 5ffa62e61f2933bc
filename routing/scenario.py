"""What-if: ordered, pure edits of the world, and the comparison of before with after.

A failed site loses its links (as an end and as a relay) and its serving pools. Its users are not forgotten: they re-home
to the surviving PoP nearest to it by RTT (measured, else assumed, else modelled), and pay that leg on every crossing. A
metro has no PoP of its own: it simply enters at the best of those left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from records.errors import UnknownSite, UserError
from records.link import LinkEstimate
from records.place import Site
from records.serving import ServingPool
from routing.answer import Answer, Route
from routing.cost import EgressPrices
from routing.latency import HANDSHAKE_ROUND_TRIPS
from routing.matrix import MatrixRow
from routing.media import rank_rtt_ns
from routing.network import Network
from routing.planner import no_price, plan
from routing.quantiles import Quantiles
from routing.request import OBJECTIVES, Request

__all__ = [
    "OPS",
    "Comparison",
    "Edit",
    "FailSite",
    "MatrixChange",
    "Scenario",
    "WhatIf",
    "World",
    "apply",
    "compare",
    "compare_matrix",
    "parse",
    "rehome",
    "what_if",
]


@dataclass(frozen=True, slots=True)
class FailSite:
    """A site is gone: no links, no relaying, no pools."""

    site: str


Edit = FailSite

#: op in a scenario file -> the fields it takes.
OPS: dict[str, tuple[str, ...]] = {"fail_site": ("site",)}
_FIELDS = ("name", "workload", "objective", "edits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Edits in order, under a name; workload and objective as the file says, None where it leaves them to the caller."""

    name: str
    edits: tuple[Edit, ...] = ()
    workload: str | None = None
    objective: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a plan is made from: places, graded links, pools. `failed` are the places that edits took away."""

    sites: Mapping[str, Site]
    links: tuple[LinkEstimate, ...]
    pools: tuple[ServingPool, ...]
    failed: Mapping[str, Site]

    @classmethod
    def of(cls, sites: Mapping[str, Site], links: Iterable[LinkEstimate], pools: Iterable[ServingPool]) -> World:
        """The world as it is."""
        return cls(sites=dict(sites), links=tuple(links), pools=tuple(pools), failed={})


def parse(document: object, *, known: Iterable[str] | None = None) -> Scenario:
    """A scenario from a JSON document (already decoded): {"name", "workload", "objective", "edits": [{"op", ...}]}.

    `known` are the ids of the sites there are; None checks none. Raises UserError for anything that is not a
    scenario, UnknownSite for a site that is not known.
    """
    if not isinstance(document, dict):
        raise UserError(f"a scenario is a JSON object with {', '.join(_FIELDS)}; this is a {type(document).__name__}")
    strange = sorted(set(document) - set(_FIELDS))
    if strange:
        raise UserError(f"a scenario has no field {strange[0]!r}; allowed are {', '.join(_FIELDS)}")
    for field in ("name", "workload", "objective"):
        if field in document and not isinstance(document[field], str):
            raise UserError(f"scenario: {field} must be a text, not {document[field]!r}")
    if not document.get("name"):
        raise UserError("a scenario needs a name")
    if document.get("objective", "ttft") not in OBJECTIVES:
        raise UserError(f"scenario: objective {document['objective']!r} is not one of {', '.join(OBJECTIVES)}")
    edits = document.get("edits", [])
    if not isinstance(edits, list):
        raise UserError(f'scenario: edits must be a list such as [{{"op": "fail_site", "site": "sin"}}], not {edits!r}')
    names = None if known is None else set(known)
    return Scenario(
        name=document["name"],
        edits=tuple(_edit(edit, number, names) for number, edit in enumerate(edits, start=1)),
        workload=document.get("workload"),
        objective=document.get("objective"),
    )


def _edit(edit: Any, number: int, known: set[str] | None) -> Edit:
    if not isinstance(edit, dict):
        raise UserError(f'scenario: edit {number} must be an object such as {{"op": "fail_site", "site": "sin"}}, not {edit!r}')
    op = edit.get("op")
    if op not in OPS:
        raise UserError(f"scenario: edit {number} has the op {op!r}; known ops are {', '.join(OPS)}")
    if set(edit) != {"op", *OPS[op]}:
        raise UserError(
            f"scenario: edit {number} ({op}) takes {', '.join(OPS[op])}; this one has {', '.join(sorted(set(edit) - {'op'})) or 'none'}"
        )
    site = edit["site"]
    if not isinstance(site, str):
        raise UserError(f"scenario: edit {number} ({op}): site must be a site id, not {site!r}")
    if known is not None and site not in known:
        raise UnknownSite(site, known)
    return FailSite(site)


def apply(scenario: Scenario, world: World) -> World:
    """The world after the edits, in order; the one given is not changed. Failing a site twice is failing it once.

    Raises UnknownSite for a site the world never had.
    """
    for edit in scenario.edits:
        site = world.sites.get(edit.site, world.failed.get(edit.site))
        if site is None:
            raise UnknownSite(edit.site, world.sites)
        world = World(
            sites={name: other for name, other in world.sites.items() if name != edit.site},
            links=tuple(link for link in world.links if edit.site not in (link.src, link.dst)),
            pools=tuple(pool for pool in world.pools if pool.site != edit.site),
            failed={**world.failed, edit.site: site},
        )
    return world


def rehome(site: str, before: World, after: World) -> LinkEstimate | None:
    """The leg that users of a failed site take: to the surviving PoP with the least median RTT, by the links of `before`.

    None when no PoP is left. Raises UnknownSite for a site that `before` does not have.
    """
    if site not in before.sites:
        raise UnknownSite(site, before.sites)
    network = Network(before.links, before.sites)
    legs = [network.leg(site, pop.id) for pop in after.sites.values() if pop.kind == "pop" and pop.id != site]
    return min((leg for leg in legs if leg is not None), key=lambda leg: (rank_rtt_ns(leg) or 0, leg.dst), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """After minus before, of the first routes; None where one of the two has none.

    moved   the serving site changed; lost: there was a route and there is none
    """

    ttft_p50_ns: float | None
    ttft_p95_ns: float | None
    e2e_p50_ns: float | None
    e2e_p95_ns: float | None
    usd_per_1k: float | None
    moved: bool
    lost: bool


def compare(before: Answer, after: Answer, *, extra_ns: float = 0.0) -> Comparison:
    """What a change did to the answer of one request; `extra_ns` is what re-homing adds to its TTFT and E2E."""
    a, b = (answer.routes[0] if answer.routes else None for answer in (before, after))
    return Comparison(
        ttft_p50_ns=_delta(_at(a, "ttft", "p50_ns"), _at(b, "ttft", "p50_ns"), extra_ns),
        ttft_p95_ns=_delta(_at(a, "ttft", "p95_ns"), _at(b, "ttft", "p95_ns"), extra_ns),
        e2e_p50_ns=_delta(_at(a, "e2e", "p50_ns"), _at(b, "e2e", "p50_ns"), extra_ns),
        e2e_p95_ns=_delta(_at(a, "e2e", "p95_ns"), _at(b, "e2e", "p95_ns"), extra_ns),
        usd_per_1k=_delta(None if a is None else a.usd_per_1k, None if b is None else b.usd_per_1k),
        moved=a is not None and b is not None and a.sites[-1] != b.sites[-1],
        lost=a is not None and b is None,
    )


@dataclass(frozen=True, slots=True)
class MatrixChange:
    """One pair before and after; `after` is None for a failed end, delta_ms inf where nothing joins the pair any more."""

    before: MatrixRow
    after: MatrixRow | None
    delta_ms: float


def compare_matrix(before: Sequence[MatrixRow], after: Sequence[MatrixRow]) -> list[MatrixChange]:
    """Pairs whose best changed or that lost their way, the worst first; pairs with a failed end have no `after`."""
    left = {(row.src, row.dst): row for row in after}
    changes = []
    for row in before:
        now = left.get((row.src, row.dst))
        if now is not None and (now.best_ms, now.relays) == (row.best_ms, row.relays):
            continue
        if row.best_ms is None:
            continue
        delta = math.inf if now is None or now.best_ms is None else now.best_ms - row.best_ms
        changes.append(MatrixChange(row, now, delta))
    return sorted(changes, key=lambda change: (-change.delta_ms, change.before.src, change.before.dst))


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """A request before and after a scenario.

    rehome    the leg by which users of a failed source reach their next PoP; None where the source stands
    after     planned from where the users then are; None when no PoP is left to them
    """

    scenario: Scenario
    before: Answer
    after: Answer | None
    rehome: LinkEstimate | None
    delta: Comparison | None


def what_if(
    scenario: Scenario, world: World, request: Request, *, egress: EgressPrices = no_price, seed: int = 0, snapshot: int | None = None
) -> WhatIf:
    """Plan a request in the world as it is and after a scenario.

    Where the source failed, its users ask from the PoP they re-home to, and `delta` adds that leg's median RTT once for
    the request and once for each round trip of the hand-shake. A destination that failed is freed: any site may serve.
    """
    changed = apply(scenario, world)
    before = plan(request, links=world.links, sites=world.sites, pools=world.pools, egress=egress, seed=seed, snapshot=snapshot)
    leg, extra_ns, moved = None, 0.0, request
    if request.source not in changed.sites:
        leg = rehome(request.source, world, changed)
        if leg is None:
            return WhatIf(scenario=scenario, before=before, after=None, rehome=None, delta=None)
        extra_ns = (rank_rtt_ns(leg) or 0) * (1.0 + HANDSHAKE_ROUND_TRIPS[request.connection])
        moved = replace(moved, source=leg.dst)
    if request.destination not in changed.sites:
        moved = replace(moved, destination=None)
    after = plan(moved, links=changed.links, sites=changed.sites, pools=changed.pools, egress=egress, seed=seed, snapshot=snapshot)
    return WhatIf(scenario=scenario, before=before, after=after, rehome=leg, delta=compare(before, after, extra_ns=extra_ns))


def _at(route: Route | None, name: str, quantile: str) -> float | None:
    value: Quantiles | None = None if route is None else getattr(route, name)
    return None if value is None else float(getattr(value, quantile))


def _delta(before: float | None, after: float | None, extra: float = 0.0) -> float | None:
    return None if before is None or after is None else after + extra - before
