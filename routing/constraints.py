"""The rules a route must keep, one by one, so that an answer can say which of them binds and what it costs.

Some rules decide where a path may lead at all (relays, residency of what is passed on), some which pools may serve
(memory, load, residency of processing and storing), some what a route may be (budgets, availability, evidence). They are
held against candidates in this order; `Rule.without` is the request that lacks one of them and keeps the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from records.place import Site
from records.residency import Activity, ResidencyRule, allows
from records.serving import ServingPool, Workload
from records.units import MS
from routing.evaluate import Candidate
from routing.request import RelayMode, Request

__all__ = [
    "Memory",
    "MemoryOf",
    "Rule",
    "availability_of",
    "binding_residency",
    "evidence_age_s",
    "keeps",
    "may_pass",
    "residency_refuses_pool",
    "rules",
    "subject_country",
]


@dataclass(frozen=True, slots=True)
class Memory:
    """What a model needs on one device at its greatest batch, and what the device has, in GB (10^9 bytes)."""

    need_gb: float
    have_gb: float

    @property
    def fits(self) -> bool:
        """Weights and the keys and values of a full batch together fit."""
        return self.need_gb <= self.have_gb


#: A pool and a workload -> its memory; None where the model's sizes or the device's memory are not known.
MemoryOf = Callable[[ServingPool, Workload], Memory | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One active constraint of a request.

    name     as in the answer's JSON: budget_ms, budget_usd_per_1k, residency:gdpr, ...
    limit    what was asked for
    without  the request with this rule left out
    value    what a candidate has against it; None: not known
    needed   the limit that a candidate's value would need
    """

    name: str
    limit: float | str
    without: Request
    value: Callable[[Candidate], float | str | None]
    needed: Callable[[float], float] = float


def rules(request: Request, sites: Mapping[str, Site], availability: Mapping[str, float]) -> list[Rule]:
    """The constraints that the request carries beside its model and its ends, the ones about law first."""
    found = [
        Rule(
            name=f"residency:{rule.id}",
            limit=rule.title,
            without=replace(request, residency=tuple(other for other in request.residency if other.id != rule.id)),
            value=lambda c: sites[c.path.sites[-1]].country,
        )
        for rule in binding_residency(request, sites)
    ]
    if request.budget_ms is not None:
        found.append(
            Rule(
                name="budget_ms",
                limit=request.budget_ms,
                without=replace(request, budget_ms=None),
                value=lambda c: c.budget_value_ns(request) / MS,
                needed=math.ceil,
            )
        )
    if request.budget_usd_per_1k is not None:
        found.append(
            Rule(
                name="budget_usd_per_1k",
                limit=request.budget_usd_per_1k,
                without=replace(request, budget_usd_per_1k=None),
                value=lambda c: None if c.cost is None else c.cost.usd_per_1k,
                needed=lambda usd: math.ceil(usd * 100) / 100,
            )
        )
    if request.min_availability is not None:
        found.append(
            Rule(
                name="min_availability",
                limit=request.min_availability,
                without=replace(request, min_availability=None),
                value=lambda c: availability_of(c, sites, availability),
                needed=lambda ratio: math.floor(ratio * 1e6) / 1e6,
            )
        )
    if request.max_evidence_age_s is not None:
        found.append(
            Rule(
                name="max_evidence_age_s",
                limit=request.max_evidence_age_s,
                without=replace(request, max_evidence_age_s=None),
                value=evidence_age_s,
                needed=math.ceil,
            )
        )
    if request.max_utilisation < 1:
        found.append(
            Rule(
                name="max_utilisation",
                limit=request.max_utilisation,
                without=replace(request, max_utilisation=1.0),
                value=lambda c: None if c.queue is None else c.queue.utilisation,
                needed=lambda ratio: math.ceil(ratio * 1000) / 1000,
            )
        )
    return found


def keeps(candidate: Candidate, request: Request, sites: Mapping[str, Site], availability: Mapping[str, float]) -> bool:
    """Whether a candidate keeps the limits on time, money, availability and evidence; what is not known does not keep one."""
    if request.budget_ms is not None:
        least_ns = candidate.least_ttft_ns + (candidate.decode_ns if request.objective == "e2e" else 0.0)
        if least_ns > request.budget_ms * MS or candidate.budget_value_ns(request) > request.budget_ms * MS:
            return False
    if request.budget_usd_per_1k is not None:
        usd = None if candidate.cost is None else candidate.cost.usd_per_1k
        if usd is None or usd > request.budget_usd_per_1k:
            return False
    if request.min_availability is not None:
        ratio = availability_of(candidate, sites, availability)
        if ratio is None or ratio < request.min_availability:
            return False
    if request.max_evidence_age_s is not None:
        age_s = evidence_age_s(candidate)
        if age_s is None or age_s > request.max_evidence_age_s:
            return False
    return True


def availability_of(candidate: Candidate, sites: Mapping[str, Site], availability: Mapping[str, float]) -> float | None:
    """The share of time the whole route stands: the product over its sites; None where one site's is not known.

    `availability` is by site id, else by provider, else by kind (pop, region). A metro is where people are and does not
    fail; sites are taken as failing independently, so that shared risks make the truth worse than this.
    """
    product = 1.0
    for name in candidate.path.sites:
        site = sites[name]
        if site.kind == "metro":
            continue
        ratio = next((availability[key] for key in (name, site.provider, site.kind) if key is not None and key in availability), None)
        if ratio is None:
            return None
        product *= ratio
    return product


def evidence_age_s(candidate: Candidate) -> float | None:
    """Age of the oldest leg's newest sample in seconds; None where a leg is modelled or has no date."""
    ages = [None if leg.evidence == "modelled" else leg.age_s for leg in candidate.path.legs]
    if any(age is None for age in ages):
        return None
    return max((age for age in ages if age is not None), default=0.0)


def subject_country(request: Request, sites: Mapping[str, Site]) -> str | None:
    """The country of the people whose data it is: what the request says, else the source's."""
    return request.subject_country or sites[request.source].country


def binding_residency(request: Request, sites: Mapping[str, Site]) -> tuple[ResidencyRule, ...]:
    """The rules asked for that hold for the subject's country; all of them where that is not known."""
    country = subject_country(request, sites)
    return tuple(rule for rule in request.residency if country is None or country in rule.applies_to)


def residency_refuses_pool(rule: ResidencyRule, site: Site) -> bool:
    """Whether a rule forbids a pool there: a pool processes, and stores (keys and values, logs)."""
    return not (allows(rule, "process", site.country) and allows(rule, "store", site.country))


def may_pass(rules: Iterable[ResidencyRule], relay_mode: RelayMode, site: Site, *, ingress: bool = False) -> bool:
    """Whether every rule lets this site pass the data on: in plaintext where TLS ends there (an ingress PoP, or a relay
    that terminates), else as ciphertext."""
    activity: Activity = "transit_plaintext" if ingress or relay_mode == "terminate" else "transit_ciphertext"
    return all(allows(rule, activity, site.country) for rule in rules)
