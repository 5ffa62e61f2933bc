"""What is asked of the planner."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from records.errors import UserError
from records.residency import ResidencyRule
from records.serving import Workload
from routing.handshakes import Connection

__all__ = ["OBJECTIVES", "RELAY_MODES", "Objective", "RelayMode", "Request"]

RelayMode = Literal["forward", "terminate"]
RELAY_MODES: tuple[RelayMode, ...] = get_args(RelayMode)

Objective = Literal["ttft", "e2e", "cost"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Where should this workload, asked for at `source`, be served, and over which route?

    source          site id of a PoP, a region or a metro; a metro enters our network at a PoP
    destination     site id that must serve it; None lets the planner choose
    objective       what is least: ttft or e2e (their medians), or cost (USD per 1,000 requests)
    relays          most relays between the ingress and the pool: 0, 1 or 2
    k               how many routes to name
    budget_ms       what the 95th percentile of TTFT (objective ttft, cost) or E2E (e2e) must keep; None for no budget
    connection      the hand-shake of the client's own leg (routing.handshakes.HANDSHAKE_ROUND_TRIPS): cold opens a TCP and
                    TLS 1.3 connection first, warm has one open
    onward          the same for the legs behind the place where the client's connection ends
    relay_mode      forward: relays pass ciphertext on, the connection crosses them; terminate: TLS ends at every relay
    share_bps       most bits a second this request gets of its line (routing.latency.fair_share_bps); None: not known
    relay_ms        what each relay adds to a round trip
    arrival_rps     requests a second that reach each pool; 0 for an idle one
    cache_hit_ratio share of the prompt whose keys and values the pool holds already, 0..1
    measured_only   refuse routes with a modelled leg

    Constraints beside the budget; None or empty constrains nothing:

    budget_usd_per_1k   most USD per 1,000 requests; a route without a known cost does not keep it
    max_utilisation     most of a pool that may be taken at the load, above 0 and at most 1
    min_availability    least availability of the whole route, 0..1; a part of unknown availability does not keep it
    max_evidence_age_s  oldest newest-sample of any measured leg; a leg without a date does not keep it
    residency           rules that hold (records.residency), all of them
    subject_country     the country of the people whose data it is; None: the source's
    min_providers       the routes named, and the backup, are served by at least this many providers (our PoPs are one)

    Raises UserError for a value outside its range.
    """

    source: str
    workload: Workload
    destination: str | None = None
    objective: Objective = "ttft"
    relays: int = 1
    k: int = 3
    budget_ms: float | None = None
    connection: Connection = "cold"
    relay_ms: float = 0.5
    arrival_rps: float = 0.0
    cache_hit_ratio: float = 0.0
    measured_only: bool = False
    onward: Connection = "warm"
    relay_mode: RelayMode = "forward"
    share_bps: float | None = None
    budget_usd_per_1k: float | None = None
    max_utilisation: float = 1.0
    min_availability: float | None = None
    max_evidence_age_s: float | None = None
    residency: tuple[ResidencyRule, ...] = ()
    subject_country: str | None = None
    min_providers: int = 1

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise UserError(f"objective {self.objective!r} is not one of {', '.join(OBJECTIVES)}")
        for name in ("connection", "onward"):
            if getattr(self, name) not in get_args(Connection):
                raise UserError(f"{name} {getattr(self, name)!r} is not one of {', '.join(get_args(Connection))}")
        if self.relay_mode not in RELAY_MODES:
            raise UserError(f"relay_mode {self.relay_mode!r} is not one of {', '.join(RELAY_MODES)}")
        if self.relays not in (0, 1, 2):
            raise UserError(f"relays {self.relays} is not 0, 1 or 2")
        if self.k < 1:
            raise UserError(f"{self.k} routes asked for; at least 1")
        if self.budget_ms is not None and not (math.isfinite(self.budget_ms) and self.budget_ms > 0):
            raise UserError(f"a budget of {self.budget_ms} ms is no budget; give a number of milliseconds above 0")
        for name in ("relay_ms", "arrival_rps"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UserError(f"{name} {value} is not a number from 0 up")
        if not 0 <= self.cache_hit_ratio <= 1:
            raise UserError(f"cache_hit_ratio {self.cache_hit_ratio} is outside 0..1")
        for name, unit in (("budget_usd_per_1k", "USD"), ("max_evidence_age_s", "seconds"), ("share_bps", "bits a second")):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UserError(f"{name} {value} constrains nothing; give a number of {unit} above 0, or leave it out")
        if not 0 < self.max_utilisation <= 1:
            raise UserError(f"max_utilisation {self.max_utilisation} is outside 0..1 (0 would let no pool serve)")
        if self.min_availability is not None and not 0 <= self.min_availability <= 1:
            raise UserError(f"min_availability {self.min_availability} is outside 0..1")
        if self.min_providers < 1:
            raise UserError(f"min_providers {self.min_providers} is not a number from 1 up")
