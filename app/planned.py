"""What the planner makes of the links that the pages read, kept as app.data keeps things: by snapshot, clock and what was asked."""

from __future__ import annotations

from datetime import datetime
from importlib.util import find_spec
from typing import Any

import streamlit as st

from app import answers, data, text
from app.data import Columns, Source
from records.units import ms
from routing.answer import to_json
from routing.kernel import Form
from routing.matrix import Matrix, solve
from routing.request import Request
from routing.scenario import MatrixChange, compare_matrices
from routing.served import Failure, Serving
from warehouse.moments import link_moments

__all__ = ["failure", "failure_effects", "plan"]


@st.cache_data(show_spinner="Planning", max_entries=64)
def _plan(key: tuple[str, int], now: datetime, window: str, request: Request) -> dict[str, Any]:
    span = text.window_of(window)
    moments: answers.MomentsOf = lambda keys: link_moments(data.opened(key[0]), keys, now=now, window=span)  # noqa: E731
    return to_json(answers.route_answer(data.known(Source(*key, now), window), request, moments=moments))


def plan(at: Source, window: str, request: Request) -> dict[str, Any]:
    """The planner's answer, as `isochrone route --json` gives it."""
    return _plan(at.key, data.clock(at), window, request)


#: A server lives long: loading the compiled form pays with the second site that somebody fails.
_FORM: Form = "numba" if find_spec("numba") else "auto"


@st.cache_resource(show_spinner="Looking for the best way of every pair", max_entries=4)
def _matrix(key: tuple[str, int], now: datetime, window: str) -> Matrix:
    return solve(data.links(Source(*key, now), window), form=_FORM)


@st.cache_resource(show_spinner="Failing the site", max_entries=8)
def _changes(key: tuple[str, int], now: datetime, window: str, site: str) -> list[MatrixChange]:
    return compare_matrices(_matrix(key, now, window), solve(data.links(Source(*key, now), window), fail=[site], form=_FORM))


def failure(at: Source, window: str, site: str) -> tuple[Matrix, list[MatrixChange]]:
    """All pairs as they are, and what the loss of a site changes."""
    now = data.clock(at)
    return _matrix(at.key, now, window), _changes(at.key, now, window, site)


@st.cache_resource(show_spinner=False, max_entries=4)
def _serving(key: tuple[str, int], now: datetime, window: str) -> Serving:
    return answers.serving_of(data.known(Source(*key, now), window))


@st.cache_resource(show_spinner=False, max_entries=4)
def _failed(key: tuple[str, int], now: datetime, window: str, site: str) -> Failure:
    return Failure(site, _serving(key, now, window))


@st.cache_data(show_spinner="Planning before and after", max_entries=32)
def _failure_effects(key: tuple[str, int], now: datetime, window: str, site: str, workload: str) -> Columns:
    serving = _serving(key, now, window)
    places, asked = serving.world.sites, answers.workload_of(workload)
    sources = sorted({link.src for link in serving.world.links if link.src in places and places[link.src].kind == "pop"})
    failed = _failed(key, now, window, site)
    effects = {source: failed.effect(Request(source=source, workload=asked, k=1)) for source in sources}
    # What changed first, the worst of it before the rest: among hundreds of PoPs one row may be all that matters.
    order = list(reversed(text.STATE_TITLES))
    sources.sort(key=lambda name: (order.index(effects[name].state), -(effects[name].delta_ns or 0), name))
    found = [effects[source] for source in sources]
    return {
        "from": sources,
        "state": [text.STATE_TITLES[one.state] for one in found],
        "before": [None if one.before is None else one.before.sites[-1] for one in found],
        "after": [None if one.after is None else one.after.sites[-1] for one in found],
        "rehome": [one.rehome.dst if one.rehome else None for one in found],
        "before_ms": [None if one.before is None else ms(one.before.ttft_p50_ns) for one in found],
        "delta_ms": [ms(one.delta_ns) for one in found],
    }


def failure_effects(at: Source, window: str, site: str, workload: str) -> Columns:
    """Where the requests of every measuring PoP are served before and after the loss of a site."""
    return _failure_effects(at.key, data.clock(at), window, site, workload)
