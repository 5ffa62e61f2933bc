"""What serves, what is asked for, and what it costs: accelerators, profiles, pools, workloads, prices.

The service model of a pool is linear, as measured by others and by us: a prefill of n tokens takes
gamma + delta * n; one output token at batch b takes alpha + beta * b.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Accelerator", "EgressPrice", "EgressScope", "PerfProfile", "Provenance", "ServingPool", "Workload"]

Provenance = Literal["measured", "published", "roofline"]
EgressScope = Literal["internet", "inter-region", "direct-connect"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """Hardware that serves models; usd_per_hour is one device's on-demand price, None where not known."""

    id: str
    name: str
    vendor: str
    kind: Literal["gpu", "asic", "cpu"]
    memory_gb: float
    usd_per_hour: float | None
    source: str
    as_of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PerfProfile:
    """How one device serves one model: TTFT's machine part and the time per output token.

    alpha_ns, beta_ns    time per output token at batch b: alpha + beta * b
    gamma_ns, delta_ns   prefill of n tokens: gamma + delta * n
    max_batch            batch slots of one device (requests decoded together)
    provenance           measured, published or roofline; error_ratio is its stated relative error, None unknown
    """

    accelerator: str
    model: str
    quantisation: str
    engine: str
    alpha_ns: int
    beta_ns: int
    gamma_ns: int
    delta_ns: int
    max_batch: int
    provenance: Provenance
    error_ratio: float | None
    source: str
    as_of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingPool:
    """Devices of one kind at one site that serve one model."""

    id: str
    site: str
    accelerator: str
    device_count: int
    model: str
    profile: PerfProfile
    usd_per_hour: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is asked for: sizes, tokens, and how late is too late (a budget of None is no budget)."""

    name: str
    title: str
    model: str
    input_tokens: int
    output_tokens: int
    upload_bytes: int
    download_bytes: int
    ttft_budget_ns: int | None
    e2e_budget_ns: int | None
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressPrice:
    """What a provider charges for bytes that leave a site, in USD per GB (10^9 bytes) from a monthly tier on.

    region None stands for every region of the provider without a row of its own; usd_per_gb None is unknown.
    """

    provider: str
    region: str | None
    scope: EgressScope
    from_gb_per_month: float
    usd_per_gb: float | None
    source: str
    as_of: str
