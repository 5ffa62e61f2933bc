"""The edits of a scenario: each a record, a line in OPS with its name in a file, and a branch in routing.effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from records.link import Medium
from routing.world import Mode

__all__ = [
    "OPS",
    "AddSite",
    "BurstDemand",
    "Degrade",
    "Edit",
    "FailGroup",
    "FailLink",
    "FailProvider",
    "FailRegion",
    "FailSite",
    "RemoveSite",
    "Resize",
    "RestoreSite",
    "SetCache",
    "SetDemand",
    "SetMode",
    "SetModel",
    "SetPrice",
    "SetResidency",
    "SetWorkload",
]


@dataclass(frozen=True, slots=True)
class FailSite:
    """A site is gone: no links, no relaying, no pools; its users re-home."""

    site: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreSite:
    """A failed site is back, as it was."""

    site: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailLink:
    """Two sites are not joined any more, in either direction; with a medium, only that medium is lost."""

    src: str
    dst: str
    medium: Medium | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailProvider:
    """Every region of a cloud provider fails."""

    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailRegion:
    """Every PoP and region of an area fails: of a country, or within radius_km of a point."""

    country: str | None = None
    lat: float | None = None
    lon: float | None = None
    radius_km: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailGroup:
    """A shared-risk group fails as a whole; `group` names one of the scenario's, or `metro/NAME`: everything in a city."""

    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Degrade:
    """A link (src, dst; both directions) or every link of a site gets slower, lossier or narrower; see `slower`."""

    site: str | None = None
    src: str | None = None
    dst: str | None = None
    rtt_factor: float = 1.0
    add_ms: float = 0.0
    loss_ratio: float = 0.0
    throughput_factor: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AddSite:
    """A new place, with a pool where `accelerator` is given. Its links are modelled until somebody measures them."""

    site: str
    lat: float
    lon: float
    kind: Literal["pop", "region"] = "pop"
    country: str | None = None
    provider: str | None = None
    name: str | None = None
    accelerator: str | None = None
    devices: int = 1
    model: str | None = None
    usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveSite:
    """A site is given up: as failed, and nothing of it is paid for."""

    site: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """A pool gets another number of devices, 0 for none; with an accelerator, a pool that is not there yet is made."""

    site: str
    devices: int
    accelerator: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPrice:
    """A price is set (usd: per GB for an egress scope, per device hour for `device`) or multiplied (factor)."""

    scope: Literal["internet", "inter-region", "direct-connect", "device"]
    usd: float | None = None
    factor: float | None = None
    provider: str | None = None
    site: str | None = None
    accelerator: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetResidency:
    """These rules hold from here on, and no others."""

    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDemand:
    """Demand is multiplied (factor; of one site or all), set (rps of one site), or a share of one site's moves to another."""

    site: str | None = None
    factor: float | None = None
    rps: float | None = None
    to: str | None = None
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstDemand:
    """Demand rises to `factor` times, holds and falls again; of one site or of all."""

    factor: float
    start_s: float = 600.0
    rise_s: float = 300.0
    hold_s: float = 1800.0
    fall_s: float = 300.0
    site: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetWorkload:
    """Another workload is asked for."""

    workload: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetModel:
    """The workload asks for another model; with a quantisation, pools serve that one where a profile is known."""

    model: str
    quantisation: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetCache:
    """Another share of the prompt is held by a pool that knows the user."""

    hit_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMode:
    """Where requests may be served; with `origin`, the model is pushed from there to every PoP that serves it."""

    mode: Mode
    origin: str | None = None
    model_gb: float | None = None
    pushes_per_month: float | None = None


Edit = (
    FailSite
    | RestoreSite
    | FailLink
    | FailProvider
    | FailRegion
    | FailGroup
    | Degrade
    | AddSite
    | RemoveSite
    | Resize
    | SetPrice
    | SetResidency
    | SetDemand
    | BurstDemand
    | SetWorkload
    | SetModel
    | SetCache
    | SetMode
)

#: op in a scenario file -> its edit; the fields of the file are those of the record.
OPS: dict[str, type[Edit]] = {
    "fail_site": FailSite,
    "restore_site": RestoreSite,
    "fail_link": FailLink,
    "fail_provider": FailProvider,
    "fail_region": FailRegion,
    "fail_group": FailGroup,
    "degrade": Degrade,
    "add_site": AddSite,
    "remove_site": RemoveSite,
    "resize": Resize,
    "set_price": SetPrice,
    "set_residency": SetResidency,
    "set_demand": SetDemand,
    "burst": BurstDemand,
    "set_workload": SetWorkload,
    "set_model": SetModel,
    "set_cache": SetCache,
    "set_mode": SetMode,
}
