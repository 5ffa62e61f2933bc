"""What is asked of the planner."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from records.errors import UserError
from records.serving import Workload
from routing.latency import Connection

__all__ = ["OBJECTIVES", "Objective", "Request"]

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
    connection      cold: the client opens a TCP and TLS 1.3 connection first; warm: it has one open
    relay_ms        what each relay adds to a round trip
    arrival_rps     requests a second that reach each pool; 0 for an idle one
    cache_hit_ratio share of the prompt whose keys and values the pool holds already, 0..1
    measured_only   refuse routes with a modelled leg

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

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise UserError(f"objective {self.objective!r} is not one of {', '.join(OBJECTIVES)}")
        if self.connection not in get_args(Connection):
            raise UserError(f"connection {self.connection!r} is not one of {', '.join(get_args(Connection))}")
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
