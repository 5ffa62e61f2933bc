"""A page's question as a command: run as printed, it gives the same answer over the same warehouse and window."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

from app import text
from routing.gates import GatePolicy
from routing.request import Request

__all__ = ["failing", "placing", "ranking", "routing", "scenario"]


def _printed(words: Iterable[object], location: str, window: str) -> str:
    """The words of a command and what it is asked over; a page holds no link for stale that its window still has."""
    span, usual_s = text.window_of(window), GatePolicy().max_age_s or 0.0
    age = ["--max-age", window] if span is None or span.total_seconds() > usual_s else []
    return shlex.join(["isochrone", *map(str, words), "--warehouse", location, "--window", window, *age])


def _number(value: float) -> str:
    """All its digits: a budget that is cut short is another one."""
    return f"{value:.15g}"


def routing(request: Request, location: str, window: str) -> str:
    """A request for `isochrone route`; what the page leaves as it is is left out."""
    words: list[object] = ["route", "--from", request.source]
    if request.destination:
        words += ["--to", request.destination]
    words += ["--workload", request.workload.name, "--objective", request.objective, "--relays", request.relays, "-k", request.k]
    if request.budget_ms:
        words += ["--budget-ms", _number(request.budget_ms)]
    if request.connection != "cold":
        words += ["--connection", request.connection]
    if request.measured_only:
        words += ["--measured-only"]
    for rule in request.residency:
        words += ["--residency", rule.id]
    if request.subject_country:
        words += ["--subject-country", request.subject_country]
    return _printed(words, location, window)


def placing(answer: dict[str, Any], kinds: str, *, proven: bool, location: str, window: str) -> str:
    """What `isochrone place --json` answered among the candidates of a kind (app.placing.KINDS)."""
    words: list[object] = ["place", "-k", answer["k"], "--objective", answer["objective"], "--kinds", kinds]
    if answer["budget_ms"]:
        words += ["--budget-ms", _number(answer["budget_ms"])]
    for site in answer["keep"]:
        words += ["--keep", site]
    return _printed([*words, *(["--prove"] if proven else [])], location, window)


def ranking(workload: str, objective: str, location: str, window: str) -> str:
    """Every single failure by its harm."""
    return _printed(["whatif", "--all-single-failures", "--workload", workload, "--objective", objective, "--json"], location, window)


def scenario(workload: str, location: str, window: str) -> str:
    """A scenario that was saved as FILE."""
    return _printed(["whatif", "FILE", "--workload", workload, "--json"], location, window)


def failing(site: str, location: str, window: str) -> str:
    """All pairs without a site."""
    return _printed(["matrix", "--relays", 1, "--fail", site], location, window)
