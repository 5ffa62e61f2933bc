"""From a scenario to its comparison: the composition behind `isochrone whatif`, over a warehouse or over models alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from app.answers import Links, link_prices_of, prices_of, workload_of
from app.memory import fitted, memory_of
from inventory.load import Inventory
from records.errors import InputError, NoAnswer, UserError
from records.units import ms
from routing import harm
from routing.compare import compare_outcomes, single_points, to_json
from routing.fleet import Fleet, FleetOptions, settle
from routing.harm import Loss
from routing.outcome import Cache, Outcome, measure
from routing.queueing import capacity_rps
from routing.reach import Reach
from routing.scenario import Scenario, apply, digest, parse
from routing.timeline import at_second, peak_second, timeline
from routing.variants import Variant
from routing.world import Stock, World

__all__ = [
    "Before",
    "Progress",
    "Question",
    "baseline",
    "before_of",
    "burst_in_time",
    "case_names",
    "compared",
    "losses",
    "modelled_links",
    "ranking",
    "read_document",
    "swept",
]

#: Gives, for a title and a number of things to do, a context of what is told how many more are done.
Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
#: Demand where nobody says: this share of what all pools of the model can take together.
USUAL_LOAD = 0.5
#: Fewer losses than this are worked out sooner than the fleet is handed to other processes.
_WORTH_SHARING = 8
#: From this share on everything is lost.
_ALL = 1 - 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a scenario is asked over: the links known, the inventory, and how the fleet serves."""

    known: Links
    inventory: Inventory
    options: FleetOptions
    workload: str
    rps: float | None = None
    seed: int = 0

    @property
    def snapshot(self) -> int | None:
        """The warehouse's snapshot; None over models alone."""
        return self.known.snapshot if self.known.links else None


def modelled_links(inventory: Inventory) -> Links:
    """No measurement at all: every link is modelled when it is needed."""
    return Links((), inventory.sites, -1, "models alone")


def case_names() -> list[str]:
    """The scenarios that come with Isochrone."""
    return sorted(entry.name.removesuffix(".json") for entry in resources.files("app.cases").iterdir() if entry.name.endswith(".json"))


def read_document(name: str) -> dict[str, Any]:
    """The JSON of a scenario file, or of a shipped case by its name. Raises UserError, InputError."""
    if name in case_names():
        document: Any = json.loads((resources.files("app.cases") / f"{name}.json").read_text(encoding="utf-8"))
        assert isinstance(document, dict)
        return document
    path = Path(name)
    if not path.is_file():
        raise UserError(f"no scenario file {name!r}, nor a shipped one of that name; shipped are {', '.join(case_names())}")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, None, f"cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise InputError(path, error.lineno, f"is not JSON: {error.msg}") from error
    if not isinstance(document, dict):
        raise InputError(path, None, f"a scenario is a JSON object, not a {type(document).__name__}")
    return document


def baseline(question: Question, scenario: Scenario | None = None) -> World:
    """The world before: the inventory's pools, demand of every metro by its people, the workload asked for.

    All demand together is the scenario's rps, else the question's, else half of what the pools of the model can take.
    """
    inventory = question.inventory
    workload = workload_of((scenario.workload if scenario else None) or question.workload, inventory)
    pools = fitted(inventory.pools, workload, inventory)
    serving = [pool for pool in pools if pool.model == workload.model]
    room = sum(capacity_rps(pool.profile, pool.device_count, workload.input_tokens, workload.output_tokens) for pool in serving)
    rps = (scenario.rps if scenario else None) or question.rps or USUAL_LOAD * room
    people = {name: count for name, count in inventory.population.items() if name in question.known.sites}
    if rps <= 0 or not people:
        raise UserError(f"no demand: {rps:g} requests a second over {len(people)} metros; --rps gives some")
    total = sum(people.values())
    return World.of(
        question.known.sites,
        question.known.links,
        pools,
        demand={name: rps * count / total for name, count in people.items()},
        workload=workload,
        stock=Stock(
            profiles=tuple(inventory.profiles),
            device_usd_per_hour={a.id: a.usd_per_hour for a in inventory.accelerators.values() if a.usd_per_hour is not None},
            workloads=inventory.workloads,
            rules=inventory.rules,
            link_prices=link_prices_of(inventory),
        ),
    )


def _options(question: Question, scenario: Scenario) -> FleetOptions:
    return question.options if scenario.objective is None else replace(question.options, objective=scenario.objective)  # type: ignore[arg-type]


def _settled(question: Question, world: World, options: FleetOptions, before: Fleet | None = None, beside: Sequence[Reach] = ()) -> Fleet:
    prices, memory = prices_of(question.inventory), memory_of(question.inventory)
    return settle(world, options, egress=prices, memory=memory, before=before, beside=beside)


@dataclass(frozen=True, slots=True)
class Before:
    """The baseline, settled and measured: what many scenarios are held against. `draws` serve worlds of the same links and workload."""

    fleet: Fleet
    outcome: Outcome
    draws: Cache


def before_of(question: Question, scenario: Scenario | None = None, *, draws: Cache | None = None, beside: Sequence[Reach] = ()) -> Before:
    """The baseline that a scenario is held against; the same for all with its workload, rps and objective.

    draws   of the same links, where they are known
    beside  what other worlds reach, as settle takes it
    """
    options = question.options if scenario is None else _options(question, scenario)
    fleet = _settled(question, baseline(question, scenario), options, beside=beside)
    draws = Cache(question.seed) if draws is None else draws
    return Before(fleet, measure(fleet, draws), draws)


def compared(
    question: Question, scenario: Scenario, *, points: bool = True, in_time: bool = True, before: Before | None = None
) -> dict[str, Any]:
    """A scenario beside its baseline, as JSON.

    points   look for new single points of failure, and raise NoAnswer where nobody is left served
    in_time  give a burst its timeline, which takes seconds (burst_in_time)
    before   the baseline (before_of) where it is known
    """
    options = _options(question, scenario)
    before = before or before_of(question, scenario)
    was, world = before.outcome, before.fleet.world
    applied = apply(scenario, world)
    changed = at_second(applied, peak_second(applied)) if applied.bursts else applied
    after = before.fleet if changed == world else _settled(question, changed, options, before.fleet)
    is_alike = after.reach is before.fleet.reach and after.workload == before.fleet.workload
    draws = before.draws if is_alike else before.draws.beside()
    now = was if after is before.fleet else measure(after, draws)
    if points and now.lost_share > _ALL and was.lost_share <= _ALL:  # one of many variants may lose all, and its row says so
        raise NoAnswer(_nobody(scenario, after))
    found = ((), ()) if not points or after is before.fleet else (single_points(before.fleet), single_points(after))
    change = compare_outcomes(was, now, points=found)
    return to_json(
        change,
        scenario_hash=digest(scenario, snapshot=question.snapshot, seed=question.seed),
        scenario=scenario.name,
        title=scenario.title,
        snapshot=question.snapshot,
        seed=question.seed,
        workload=after.workload.name,
        objective=options.objective,
        timeline=_timeline(question, applied, options, before.fleet) if points and in_time else [],
    )


def burst_in_time(question: Question, scenario: Scenario, before: Before, progress: Progress | None = None) -> list[dict[str, Any]]:
    """The timeline of `compared`: a scenario's bursts in time, its pools' queues followed; empty without one."""
    return _timeline(question, apply(scenario, before.fleet.world), _options(question, scenario), before.fleet, progress)


def _nobody(scenario: Scenario, after: Fleet) -> str:
    """Why a scenario leaves nobody served, and what to change."""
    asked = after.workload.model
    standing = [pool for pool in after.world.pools if pool.model == asked]
    why = (
        f"no place can reach one of the {len(standing)} pools of {asked} that stand (no PoP is left to enter at, or a rule forbids each)"
        if standing
        else f"every pool of {asked} is gone"
    )
    change = "take an edit out, or give it a pool (resize, add_site) or a way in (restore_site)"
    return f"scenario {scenario.name!r} leaves nobody served: {why}; {change}"


def _timeline(
    question: Question, world: World, options: FleetOptions, before: Fleet, progress: Progress | None = None
) -> list[dict[str, Any]]:
    """A burst in time; empty without one. The comparison itself is of the burst's peak, at rest."""
    prices, memory = prices_of(question.inventory), memory_of(question.inventory)
    steps = timeline(world, options, egress=prices, memory=memory, before=before, step_s=120.0, progress=progress)
    return [
        {
            "t_s": step.at_s,
            "rps": step.rps,
            "over_capacity_share": step.over_share,
            "wait_ms": ms(step.wait_mean_ns),
            "worst_pool": step.worst_pool,
            "worst_wait_ms": ms(step.worst_wait_ns),
            "waiting": step.waiting,
        }
        for step in steps
    ]


def swept(question: Question, variants: Sequence[Variant]) -> list[dict[str, Any]]:
    """The deltas of many scenarios over one baseline, in their order."""
    rows = []
    first = variants[0].scenario
    before = before_of(question, first)
    for variant in variants:
        found = compared(question, variant.scenario, points=False, before=before)
        rows.append({"values": dict(variant.values), "deltas": found["deltas"], "scenario_hash": found["scenario_hash"]})
    return rows


def losses(world: World, *, single: bool, groups: bool, pairs: Iterable[Loss] = ()) -> list[Loss]:
    """What a ranking looks at."""
    found = harm.single_losses(world) if single else []
    found += harm.groups_of(world) if groups else []
    return [*found, *harm.pairs_of(pairs)]


def ranking(
    question: Question,
    scenario: Scenario | None,
    *,
    single: bool,
    groups: bool,
    pairs: int,
    pool: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Every single failure, shared-risk group, and pair of the `pairs` worst sites, by the harm they do.

    pool      where it is worked out (app.pools); None: here
    progress  shows how far it is
    """
    world = baseline(question, scenario)
    if scenario is not None:
        world = apply(scenario, world)
    fleet = _settled(question, world, question.options if scenario is None else _options(question, scenario))
    memory = memory_of(question.inventory)

    def rank(title: str, asked: Sequence[Loss]) -> list[harm.Harm]:
        scaled = (pool or {}) if len(asked) >= _WORTH_SHARING else {}
        with nullcontext(lambda _count: None) if progress is None else progress(title, len(asked)) as done:
            return harm.rank(fleet, asked, seed=question.seed, memory=memory, progress=done, **scaled)

    found = rank("losses", losses(world, single=single or pairs > 0, groups=groups))
    if pairs:
        worst = [one.loss for one in found if one.loss.kind == "site" and one.touched][:pairs]
        kept = [one for one in found if single or one.loss.kind == "group"]
        found = sorted([*kept, *rank("pairs", harm.pairs_of(worst))], key=lambda one: one.order)
    return harm.to_json(found)


def scenario_of(document: dict[str, Any], question: Question) -> Scenario:
    """The scenario of a document over the question's sites."""
    return parse(document, known=question.known.sites)
