"""How sites are reached: hosts of a region that may be measured, on-ramps of private links, and which media exist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from records.link import Medium

__all__ = ["BASES", "PROTOCOLS", "TERMINATIONS", "Basis", "Endpoint", "MediumLink", "OnRamp", "Protocol", "Termination"]

Protocol = Literal["https", "tcp"]
Termination = Literal["region", "edge", "unknown"]
Basis = Literal["listed", "pattern", "memory"]

PROTOCOLS: tuple[Protocol, ...] = ("https", "tcp")

#: Where a connection ends. An endpoint that ends at a global front end answers in no time and says nothing of its region.
TERMINATIONS: tuple[Termination, ...] = ("region", "edge", "unknown")

#: How sure a host name is: named in the provider's own list, filled into a pattern the provider documents, or neither read again.
BASES: tuple[Basis, ...] = ("listed", "pattern", "memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A public host of a cloud region that may be measured politely: a connect, a hand-shake, a few times and apart.

    host        DNS name; it must be resolved at the time of asking, addresses move
    port        TCP port
    protocol    https: TLS with this name; tcp: nothing is said after the connect
    terminates  where the connection ends: only `region` measures the region
    basis       how sure the name is
    """

    region: str
    host: str
    port: int
    protocol: Protocol
    terminates: Termination
    basis: Basis
    source: str
    as_of: str
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OnRamp:
    """A metro where a cloud's private link product is handed over.

    product  Direct Connect, ExpressRoute, Cloud Interconnect, Express Connect, FastConnect
    lat, lon degrees, WGS 84, city accurate
    regions  ids of the regions it reaches without paying for more reach; None: every region of the provider
    """

    provider: str
    product: str
    metro: str
    country: str
    lat: float
    lon: float
    regions: tuple[str, ...] | None
    source: str
    as_of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MediumLink:
    """That a medium joins two sites, either way, and what a port of it costs; None is not known, which is not zero.

    src, dst            ids of sites; both `any` for a medium that joins every two sites
    capacity_bps        what the port is sold as, decimal bits per second
    port_usd_per_month  what the port costs, used or not
    usd_per_gb          what a GB (10^9 bytes) from the cloud's side costs over it, 0 where it is part of the port's price
    commitment_months   the least term the price asks for
    currency            ISO 4217 code of the list the prices were read from
    """

    src: str
    dst: str
    medium: Medium
    capacity_bps: int | None
    port_usd_per_month: float | None
    usd_per_gb: float | None
    commitment_months: int | None
    currency: str | None
    source: str
    as_of: str
