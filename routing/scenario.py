"""What-if: ordered, pure edits of the world, read from JSON; and one request before and after them.

A failed site loses its links (as an end and as a relay) and its serving pools. Its users are not forgotten: they re-home
to the nearest PoP that stands and that the law allows (routing.rehoming), and pay that leg on every crossing. A
metro has no PoP of its own: it simply enters at the best of those left. What a scenario does to all demand at once, with
its queues, is routing.outcome.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from records.errors import UnknownSite, UserError
from records.link import MEDIA, LinkEstimate
from records.place import PROVIDERS
from routing.answer import Answer, Route
from routing.cost import EgressPrices
from routing.edits import OPS, AddSite, Edit, FailSite
from routing.effects import apply_edit
from routing.handshakes import HANDSHAKE_ROUND_TRIPS
from routing.matrix import Matrix, MatrixRow
from routing.media import rank_rtt_ns
from routing.planner import Planner, no_price
from routing.quantiles import Quantiles
from routing.rehoming import Rehoming
from routing.request import OBJECTIVES, Request
from routing.world import MODES, Group, World

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
    "checked",
    "compare",
    "compare_matrices",
    "compare_matrix",
    "digest",
    "op_of",
    "parse",
    "planner_of",
    "rehome",
    "what_if",
    "what_ifs",
]


_FIELDS = ("name", "title", "workload", "objective", "rps", "groups", "edits")

_RATIO = {"hit_ratio", "share", "loss_ratio"}
_POSITIVE = {"rtt_factor", "throughput_factor", "radius_km", "model_gb"}
_NUMBERS = {
    *("add_ms", "lat", "lon", "usd_per_hour", "usd", "factor", "rps", "start_s", "rise_s", "hold_s", "fall_s", "pushes_per_month"),
    *_RATIO,
    *_POSITIVE,
}
_WHOLE = {"devices"}
_SIGNED = {"lat", "lon"}
_SITES = {"site", "src", "dst", "to", "origin"}
_CHOICES: dict[str, tuple[str, ...]] = {
    "medium": MEDIA,
    "kind": ("pop", "region"),
    "scope": ("internet", "inter-region", "direct-connect", "device"),
    "mode": MODES,
    "provider": tuple(PROVIDERS),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Edits in order, under a name; None where the file leaves a thing to the caller.

    rps     requests a second of all demand together
    groups  shared-risk groups that fail_group may name
    """

    name: str
    edits: tuple[Edit, ...] = ()
    workload: str | None = None
    objective: str | None = None
    title: str = ""
    rps: float | None = None
    groups: Mapping[str, Group] = field(default_factory=dict)


def parse(document: object, *, known: Iterable[str] | None = None) -> Scenario:
    """A scenario from a JSON document (already decoded): {"name", "workload", "objective", "edits": [{"op", ...}], ...}.

    `known` are the ids of the sites there are; None checks none. Raises UserError for anything that is not a
    scenario, UnknownSite for a site that is not known.
    """
    if not isinstance(document, dict):
        raise UserError(f"a scenario is a JSON object with {', '.join(_FIELDS)}; this is a {type(document).__name__}")
    strange = sorted(str(key) for key in set(document) - set(_FIELDS))
    if strange:
        raise UserError(f"a scenario has no field {strange[0]!r}; allowed are {', '.join(_FIELDS)}")
    for name in ("name", "title", "workload", "objective"):
        if name in document and not isinstance(document[name], str):
            raise UserError(f"scenario: {name} must be a text, not {document[name]!r}")
    if not document.get("name"):
        raise UserError("a scenario needs a name")
    if document.get("objective", "ttft") not in OBJECTIVES:
        raise UserError(f"scenario: objective {document['objective']!r} is not one of {', '.join(OBJECTIVES)}")
    edits = document.get("edits", [])
    if not isinstance(edits, list):
        raise UserError(f'scenario: edits must be a list such as [{{"op": "fail_site", "site": "sin"}}], not {edits!r}')
    rps = document.get("rps")
    if rps is not None and not (_is_number(rps) and rps > 0):
        raise UserError(f"scenario: rps must be a number of requests a second above 0, not {rps!r}")
    names = None if known is None else set(known)
    read = []
    for number, edit in enumerate(edits, start=1):
        read.append(_edit(edit, number, names))
        if names is not None and isinstance(read[-1], AddSite):
            names.add(read[-1].site)
    return Scenario(
        name=document["name"],
        title=document.get("title", ""),
        edits=tuple(read),
        workload=document.get("workload"),
        objective=document.get("objective"),
        rps=None if rps is None else float(rps),
        groups=_groups(document.get("groups", {})),
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _groups(given: object) -> dict[str, Group]:
    shape = 'groups must be an object such as {"cable": {"sites": ["sin"], "links": [["sin", "dxb"]]}}'
    if not isinstance(given, dict):
        raise UserError(f"scenario: {shape}, not {given!r}")
    found = {}
    for name, group in given.items():
        members: dict[str, Any] = group if isinstance(group, dict) else {"": None}
        sites, links = members.get("sites", []), members.get("links", [])
        good = set(members) <= {"sites", "links"} and isinstance(sites, list) and isinstance(links, list)
        good = good and all(isinstance(site, str) for site in sites)
        good = good and all(isinstance(pair, list) and len(pair) == 2 and all(isinstance(end, str) for end in pair) for pair in links)
        if not good:
            raise UserError(f"scenario: group {name!r}: {shape}, not {group!r}")
        found[name] = Group(sites=frozenset(sites), links=frozenset((a, b) for a, b in links))
    return found


def _edit(edit: Any, number: int, known: set[str] | None) -> Edit:
    if not isinstance(edit, dict):
        raise UserError(f'scenario: edit {number} must be an object such as {{"op": "fail_site", "site": "sin"}}, not {edit!r}')
    op = edit.get("op")
    if not isinstance(op, str) or op not in OPS:
        raise UserError(f"scenario: edit {number} has the op {op!r}; known ops are {', '.join(OPS)}")
    record = OPS[op]
    given = {name: value for name, value in edit.items() if name != "op"}
    needed = [f.name for f in fields(record) if f.default is MISSING]
    optional = [f.name for f in fields(record) if f.default is not MISSING]
    if not set(needed) <= set(given) <= {*needed, *optional}:
        takes = ", ".join(needed) + (f"{'; ' if needed else ''}optionally {', '.join(optional)}" if optional else "")
        raise UserError(f"scenario: edit {number} ({op}) takes {takes}; this one has {', '.join(sorted(map(str, given))) or 'none'}")
    where = f"scenario: edit {number} ({op})"
    values = {name: checked(name, value, where) for name, value in given.items()}
    if known is not None:
        for name in _SITES & set(values):
            if values[name] not in known and not (record is AddSite and name == "site"):
                raise UnknownSite(values[name], known)
    return record(**values)


def checked(name: str, value: Any, where: str) -> Any:
    """One field of an edit, checked; raises UserError with what is allowed."""
    if name == "rules":
        if not isinstance(value, list) or not all(isinstance(rule, str) for rule in value):
            raise UserError(f"{where}: rules must be a list of rule ids such as ['gdpr'], not {value!r}")
        return tuple(value)
    if name in _WHOLE:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise UserError(f"{where}: {name} must be a whole number from 0 up, not {value!r}")
        return value
    if name in _NUMBERS:
        low_ok = _is_number(value) and (name in _SIGNED or value >= 0) and not (name in _POSITIVE and value == 0)
        if not low_ok or (name in _RATIO and value > 1):
            allowed = "from 0 to 1" if name in _RATIO else "above 0" if name in _POSITIVE else "" if name in _SIGNED else "from 0 up"
            raise UserError(f"{where}: {name} must be a number {allowed}".rstrip() + f", not {value!r}")
        return float(value)
    if not isinstance(value, str) or not value:
        what = "a site id" if name in _SITES else "a text"
        raise UserError(f"{where}: {name} must be {what}, not {value!r}")
    if name in _CHOICES and value not in _CHOICES[name]:
        raise UserError(f"{where}: {name} {value!r} is not one of {', '.join(_CHOICES[name])}")
    return value


def apply(scenario: Scenario, world: World) -> World:
    """The world after the edits, in order; the one given is not changed. Failing a site twice is failing it once.

    Raises UnknownSite and UserError for edits that the world cannot take (routing.effects).
    """
    if scenario.groups:
        world = replace(world, groups={**world.groups, **scenario.groups})
    for edit in scenario.edits:
        world = apply_edit(edit, world)
    return world


def digest(scenario: Scenario, *, snapshot: int | None, seed: int) -> str:
    """SHA-256 over the scenario, the snapshot of the data and the seed: the same text stands for the same question."""
    document = {
        "name": scenario.name,
        "workload": scenario.workload,
        "objective": scenario.objective,
        "rps": scenario.rps,
        "groups": {name: [sorted(group.sites), sorted(group.links)] for name, group in scenario.groups.items()},
        "edits": [{"op": op_of(edit), **asdict(edit)} for edit in scenario.edits],
        "snapshot": snapshot,
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True, default=list).encode()).hexdigest()


def op_of(edit: Edit) -> str:
    """The name of an edit in a file."""
    return next(op for op, record in OPS.items() if type(edit) is record)


def rehome(site: str, before: World, after: World) -> LinkEstimate | None:
    """The leg that users of a failed site take where no law binds them: to the surviving PoP with the least median RTT.

    None when no PoP is left. Raises UnknownSite for a site that `before` does not have.
    """
    return Rehoming(before, after).leg(site)


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


def compare_matrices(before: Matrix, after: Matrix) -> list[MatrixChange]:
    """`compare_matrix` of whole tables: only what changed becomes records."""
    kept = np.array([after.index.get(name, -1) for name in before.names], dtype=np.intp)
    stands = np.flatnonzero(kept >= 0)
    back = np.full(len(after.names) + 1, -2, dtype=np.intp)  # a relay that was not there before is none of before
    back[-1] = -1  # no relay stays no relay
    back[kept[stands]] = stands
    now_ms = np.full(before.best_ms.shape, np.inf)
    same_way = np.zeros(before.best_ms.shape, dtype=np.bool_)
    at, cells = np.ix_(stands, stands), np.ix_(kept[stands], kept[stands])
    now_ms[at] = after.best_ms[cells]
    same_way[at] = (back[after.via1[cells]] == before.via1[at]) & (back[after.via2[cells]] == before.via2[at])
    changed = np.isfinite(before.best_ms) & ~(same_way & (now_ms == before.best_ms))
    np.fill_diagonal(changed, val=False)
    i, j = np.nonzero(changed)
    with np.errstate(invalid="ignore"):
        delta = now_ms[i, j] - before.best_ms[i, j]
    order = np.lexsort((j, i, -delta))
    changes = []
    for src, dst, delta_ms in zip(i[order].tolist(), j[order].tolist(), delta[order].tolist(), strict=True):
        a, b = int(kept[src]), int(kept[dst])
        changes.append(MatrixChange(before.row(src, dst), None if a < 0 or b < 0 else after.row(a, b), delta_ms))
    return changes


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """A request before and after a scenario.

    rehome    the leg by which users of a failed source reach their next PoP; None where the source stands
    after     planned from where the users then are; None when no PoP is left to them that stands and that their rules allow
    """

    scenario: Scenario
    before: Answer
    after: Answer | None
    rehome: LinkEstimate | None
    delta: Comparison | None


def what_if(
    scenario: Scenario, world: World, request: Request, *, egress: EgressPrices = no_price, seed: int = 0, snapshot: int | None = None
) -> WhatIf:
    """Plan a request in the world as it is and after a scenario; see what_ifs."""
    return what_ifs(scenario, world, [request], egress=egress, seed=seed, snapshot=snapshot)[0]


def what_ifs(
    scenario: Scenario,
    world: World,
    requests: Iterable[Request],
    *,
    egress: EgressPrices = no_price,
    seed: int = 0,
    snapshot: int | None = None,
) -> list[WhatIf]:
    """Plan requests in the world as it is and after a scenario; each world is made ready once for all of them.

    Where the source failed, its users ask from the PoP they re-home to, under the rules that held for them before, and
    `delta` adds that leg's median RTT once for the request and once for each round trip of the hand-shake. A destination
    that failed is freed: any site may serve.
    """
    changed = apply(scenario, world)
    as_it_is, after_it = (planner_of(some, egress, seed, snapshot) for some in (world, changed))
    rehoming = Rehoming(world, changed)

    def planned(request: Request) -> WhatIf:
        before = as_it_is.plan(request)
        leg, extra_ns, moved = None, 0.0, request
        if request.source not in changed.sites:
            found = rehoming.moved(request)
            if found is None:
                return WhatIf(scenario=scenario, before=before, after=None, rehome=None, delta=None)
            moved, leg = found
            extra_ns = (rank_rtt_ns(leg) or 0) * (1.0 + HANDSHAKE_ROUND_TRIPS[request.connection])
        if request.destination not in changed.sites:
            moved = replace(moved, destination=None)
        after = after_it.plan(moved)
        return WhatIf(scenario=scenario, before=before, after=after, rehome=leg, delta=compare(before, after, extra_ns=extra_ns))

    return [planned(request) for request in requests]


def planner_of(world: World, egress: EgressPrices, seed: int, snapshot: int | None) -> Planner:
    """A planner over the links, places and pools of a world, at its prices."""
    pools = [replace(pool, usd_per_hour=world.price_of(pool)) for pool in world.pools]
    return Planner(
        world.links,
        world.sites,
        pools,
        egress=world.egress(egress),
        seed=seed,
        snapshot=snapshot,
        cut=world.cut,
        link_prices=world.stock.link_prices,
    )


def _at(route: Route | None, name: str, quantile: str) -> float | None:
    value: Quantiles | None = None if route is None else getattr(route, name)
    return None if value is None else float(getattr(value, quantile))


def _delta(before: float | None, after: float | None, extra: float = 0.0) -> float | None:
    return None if before is None or after is None else after + extra - before
