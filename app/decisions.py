"""What the pages of decisions compute over all demand: who is reached how soon, what a scenario does, where sites pay.

Kept as in app.data: under the snapshot, the minute's clock and the arguments, and shared by all sessions. Everything here
takes a second or more the first time, so each says what it is doing.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Lock
from typing import Any

import streamlit as st

from app import answers, data, text, whatif, worked_cases
from app.data import Source
from app.memory import memory_of
from app.placing import candidates_of, place_answer, placement_json
from app.whatif import Progress
from inventory.load import load
from records.errors import IsochroneError
from records.units import ms
from routing.cases import monthly_usd
from routing.fleet import FleetOptions, settle
from routing.outcome import Cache, measure_places
from routing.reach import Reach
from routing.request import Objective
from routing.scenario import Scenario, parse

__all__ = ["MODES", "SCOPES", "Reached", "compared", "in_time", "placed", "price_rows", "ranked", "reached", "scenario_problem", "worked"]

#: What a byte that leaves a region may be billed as.
SCOPES = ("internet", "inter-region", "direct-connect")
#: Where requests may be served, and what it is called. Hybrid is here: each request where it is answered soonest.
MODES = {"edge": "Edge", "cloud": "Cloud", "any": "Hybrid"}


@dataclass(frozen=True, slots=True)
class Reached:
    """A metro and the first token its people get: TTFT in ms (None: nobody may or can serve them), where, and over what."""

    metro: str
    people: float
    p50_ms: float | None
    p95_ms: float | None
    served_at: str | None
    measured: float


def _question(
    key: tuple[str, int], now: datetime, window: str, workload: str, objective: Objective = "ttft", rps: float | None = None
) -> whatif.Question:
    known = data.known(Source(*key, now), window)
    return whatif.Question(
        known=known,
        inventory=load(),
        options=FleetOptions(objective=objective),
        workload=workload,
        rps=rps,
    )


@st.cache_resource(show_spinner=False, max_entries=4)
def _draws(key: tuple[str, int], now: datetime, window: str, seed: int) -> Cache:  # noqa: ARG001 - kept under it
    """What the first that planned drew of the links, for all workloads."""
    return Cache(seed)


def _keep(draws: Cache, found: Cache) -> None:
    if not draws.links:  # others cross nearly the same, and what is kept must not grow with them
        draws.links.update(found.links)


@st.cache_resource(show_spinner=False, max_entries=4)
def _reaches(key: tuple[str, int], now: datetime, window: str) -> deque[Reach]:  # noqa: ARG001 - kept under it
    """What the baselines of workloads reach: most have it in common."""
    return deque(maxlen=4)


def _shared(reaches: deque[Reach], found: Reach) -> None:
    if not any(one is found for one in tuple(reaches)):  # another session may add to it meanwhile
        reaches.append(found)


@st.cache_resource(show_spinner="Serving every metro from the edge, the cloud and both", max_entries=24)
def _reached(key: tuple[str, int], now: datetime, window: str, workload: str, rps: float | None) -> dict[str, tuple[Reached, ...]]:
    question = _question(key, now, window, workload, rps=rps)
    world, prices, memory = whatif.baseline(question), answers.prices_of(question.inventory), memory_of(question.inventory)
    people, draws, reaches = question.inventory.population, _draws(key, now, window, question.seed).beside(), _reaches(key, now, window)
    reach: Reach | None = None
    found = {}
    for mode in MODES:
        fleet = settle(
            replace(world, mode=mode),  # type: ignore[arg-type]
            question.options,
            egress=prices,
            memory=memory,
            reach=reach,
            beside=tuple(reaches),
        )
        reach = fleet.reach  # a mode chooses among pools, and leaves the network as it is
        _shared(reaches, reach)
        site_of = {pool.id: pool.site for pool in fleet.pools}
        found[mode] = tuple(
            Reached(
                place.site,
                float(people.get(place.site, 0)),
                ms(place.ttft_p50_ns),
                ms(place.ttft_p95_ns),
                site_of[place.served[0][0]] if place.served else None,
                place.measured,
            )
            for place in measure_places(fleet, draws)
        )
    _keep(_draws(key, now, window, question.seed), draws)
    return found


def reached(at: Source, window: str, workload: str, rps: float | None) -> dict[str, tuple[Reached, ...]]:
    """By mode (MODES), the first token of every metro, at so many requests a second (None: half of capacity)."""
    return _reached(at.key, data.clock(at), window, workload, rps)


@st.cache_resource(show_spinner="Settling all demand as it is", max_entries=12)
def _before(key: tuple[str, int], now: datetime, window: str, workload: str, _question: whatif.Question, held: str) -> whatif.Before:  # noqa: ARG001 - kept under it
    draws = _draws(key, now, window, _question.seed)
    reaches = _reaches(key, now, window)
    asked = whatif.scenario_of(json.loads(held), _question)
    before = whatif.before_of(_question, asked, draws=draws.beside(), beside=tuple(reaches))
    _keep(draws, before.draws)
    _shared(reaches, before.fleet.reach)
    return before


def _asked(
    key: tuple[str, int], now: datetime, window: str, document: str, workload: str
) -> tuple[whatif.Question, Scenario, whatif.Before]:
    """What is asked, and the baseline: one for all scenarios that change neither workload, objective nor demand by themselves."""
    question = _question(key, now, window, workload)
    said = json.loads(document)
    held = {name: said[name] for name in ("workload", "objective", "rps") if name in said}
    before = _before(key, now, window, workload, question, json.dumps({"name": "as it is", "edits": [], **held}, sort_keys=True))
    return question, whatif.scenario_of(said, question), before


@st.cache_data(show_spinner="Settling all demand after the change", max_entries=64)
def _compared(key: tuple[str, int], now: datetime, window: str, document: str, workload: str) -> dict[str, Any]:
    said = json.loads(document)
    if "kind" in said:
        question = _question(key, now, window, workload)
        return worked_cases.worked(said, question.known, question.inventory, seed=question.seed)
    question, scenario, before = _asked(key, now, window, document, workload)
    return whatif.compared(question, scenario, before=before, in_time=False)


def compared(at: Source, window: str, document: dict[str, Any], workload: str) -> dict[str, Any]:
    """A scenario (or worked case) beside its baseline, as `isochrone whatif --json` gives it; a burst without its timeline."""
    return _compared(at.key, data.clock(at), window, json.dumps(document, sort_keys=True), workload)


@dataclass(slots=True)
class _Slot:
    """Where something lies that is worked out under the eyes of who asked first; who asks meanwhile waits for it."""

    lock: Any
    value: Any = None


@st.cache_resource(show_spinner=False, max_entries=16)
def _in_time(key: tuple[str, int], now: datetime, window: str, document: str, workload: str) -> _Slot:  # noqa: ARG001 - kept under it
    return _Slot(Lock())


def in_time(at: Source, window: str, document: dict[str, Any], workload: str, *, progress: Progress | None = None) -> list[dict[str, Any]]:
    """The timeline of a scenario's bursts; empty without one.

    progress   as of routing.timeline; asked for nothing where the answer is there
    """
    now, said = data.clock(at), json.dumps(document, sort_keys=True)
    slot = _in_time(at.key, now, window, said, workload)
    with slot.lock:
        if slot.value is None:
            slot.value = whatif.burst_in_time(*_asked(at.key, now, window, said, workload), progress)
        found: list[dict[str, Any]] = slot.value
    return found


@st.cache_resource(show_spinner=False, max_entries=8)
def _ranking(key: tuple[str, int], now: datetime, window: str, workload: str, objective: Objective) -> _Slot:  # noqa: ARG001 - kept under it
    return _Slot(Lock())


def ranked(
    at: Source, window: str, workload: str, objective: Objective = "ttft", *, progress: Progress | None = None
) -> list[dict[str, Any]]:
    """Every single failure by the harm it does, as `isochrone whatif --all-single-failures --json` gives it.

    progress   as of whatif.ranking; asked for nothing where the answer is there
    """
    now = data.clock(at)
    slot = _ranking(at.key, now, window, workload, objective)
    with slot.lock:
        if slot.value is None:
            question = _question(at.key, now, window, workload, objective)
            slot.value = whatif.ranking(question, None, single=True, groups=False, pairs=0, progress=progress)
        found: list[dict[str, Any]] = slot.value
    return found


@st.cache_data(show_spinner=False, max_entries=32)
def _placed(
    key: tuple[str, int],
    now: datetime,
    window: str,
    k: int,
    objective: str,
    budget_ms: float,
    keep: tuple[str, ...],
    kinds: str,
    proven: bool,
) -> dict[str, Any]:
    known = data.known(Source(*key, now), window)
    return placement_json(
        place_answer(
            k,
            objective=objective,  # type: ignore[arg-type]
            candidates=candidates_of(kinds, load()),
            keep=keep,
            budget_ms=budget_ms,
            proven=proven,
            time_limit_s=30.0,
            known=known,
        )
    )


def placed(
    at: Source, window: str, k: int, *, objective: str, budget_ms: float, keep: Sequence[str], kinds: str, proven: bool
) -> dict[str, Any]:
    """Where k sites pay most, as `isochrone place --json` gives it; `kinds` is one of placing.KINDS."""
    return _placed(at.key, data.clock(at), window, k, objective, budget_ms, tuple(keep), kinds, proven)


@st.cache_data(show_spinner=False, max_entries=64)
def _worked(key: tuple[str, int], now: datetime, window: str, document: str) -> dict[str, Any]:
    return worked_cases.worked(json.loads(document), data.known(Source(*key, now), window), load(), seed=0)


def worked(at: Source, window: str, document: dict[str, Any]) -> dict[str, Any]:
    """One of the shipped cases with the numbers given."""
    return _worked(at.key, data.clock(at), window, json.dumps(document, sort_keys=True))


@st.cache_data(show_spinner=False, max_entries=16)
def price_rows(month_gb: float) -> list[dict[str, Any]]:
    """What a month of `month_gb` leaving each cloud region costs in USD, by scope; None where no price is known."""
    inventory = load()
    price = answers.prices_of(inventory)

    def month(site: str, scope: Any) -> float | None:
        return monthly_usd(lambda at: price(site, scope, at), month_gb)

    return [
        {"region": site.id, "provider": site.provider, "name": site.name, "country": site.country}
        | {scope: month(site.id, scope) for scope in SCOPES}
        for site in inventory.regions
    ]


def scenario_problem(document: object, known: Sequence[str]) -> str | None:
    """What is wrong with a scenario, as one sentence; None when it holds."""
    try:
        parse(document, known=known)
    except IsochroneError as error:
        return text.sentence(str(error))
    return None
