"""Worked cases that are no failure and no demand: a file processed far away, cameras, private against public links.

Pure arithmetic over links and prices that are handed in; the scenarios that ask for them are data (app/cases).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from records.errors import UserError
from records.link import LinkEstimate
from records.units import GB
from routing.bill import tiered_usd
from routing.draws import Draws
from routing.latency import Connection, connect_ns, transfer_ns
from routing.quantiles import Quantiles, quantiles

__all__ = ["Cameras", "Processed", "Stream", "break_even_gb", "month_gb", "monthly_usd", "processed"]

MONTH_S = 30 * 86_400

#: GB that left already this month -> USD for the next GB, None where not known.
Price = Callable[[float], float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Processed:
    """A file sent, processed and returned: quantiles of the whole, and its parts for the median round trip, in ns."""

    whole: Quantiles
    rtt: Quantiles
    connect_ns: float
    upload_ns: float
    processing_ns: float
    download_ns: float
    evidence: tuple[str, ...]


def processed(
    legs: Sequence[LinkEstimate],
    *,
    upload_bytes: int,
    download_bytes: int,
    processing_ns: float,
    connection: Connection = "cold",
    share_bps: float | None = None,
    seed: int = 0,
) -> Processed:
    """Hand-shake, the file there, its processing, the result back, over the legs' whole way end to end.

    Both directions start slowly by themselves (the server's window is new) and then go at the least throughput measured on
    a leg, the loss-limited rate, and `share_bps`. Raises UserError for a negative size or time.
    """
    if upload_bytes < 0 or download_bytes < 0 or not processing_ns >= 0:
        raise UserError("sizes and the time of processing must be numbers from 0 up")
    drawn, _ = Draws(seed).legs(legs)
    rtt = np.sum(drawn, axis=0) if drawn else np.zeros(1)
    rates = [leg.throughput_bps for leg in legs if leg.throughput_bps is not None]
    losses = [leg.loss_ratio for leg in legs if leg.loss_ratio is not None]

    def way(size: int, rtt_ns: np.ndarray) -> np.ndarray:
        loss = float(1 - np.prod([1 - ratio for ratio in losses])) if losses else None
        extra = transfer_ns(size, rtt_ns, throughput_bps=min(rates, default=None), loss_ratio=loss, share_bps=share_bps)
        found: np.ndarray = rtt_ns / 2 + extra
        return found

    whole = connect_ns(rtt, connection) + way(upload_bytes, rtt) + processing_ns + way(download_bytes, rtt)
    middle = np.array([quantiles(rtt).p50_ns])
    return Processed(
        whole=quantiles(whole),
        rtt=quantiles(rtt),
        connect_ns=float(connect_ns(middle, connection)[0]),
        upload_ns=float(way(upload_bytes, middle)[0]),
        processing_ns=processing_ns,
        download_ns=float(way(download_bytes, middle)[0]),
        evidence=tuple(leg.evidence for leg in legs),
    )


def month_gb(rate_bps: float, *, hours_a_day: float = 24.0) -> float:
    """GB (10^9 bytes) a stream makes in 30 days.

    >>> month_gb(1000 * 2e6)  # a thousand cameras of 2 Mbit/s
    648000.0
    """
    return rate_bps / 8 * MONTH_S * hours_a_day / 24 / GB


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A month of a stream into one region, and what it costs when all of it leaves again once."""

    region: str
    gb: float
    usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cameras:
    """Cameras that send all they see, or only what their edge found odd."""

    count: int
    bps_each: float
    anomaly_share: float

    def __post_init__(self) -> None:
        if self.count < 1 or not self.bps_each > 0 or not 0 <= self.anomaly_share <= 1:
            raise UserError("cameras need a count from 1, bits a second above 0 and an anomaly_share from 0 to 1")

    @property
    def uplink_bps(self) -> float:
        """All of them at once."""
        return self.count * self.bps_each

    def streams(self, region: str, price: Price) -> tuple[Stream, Stream]:
        """(everything, anomalies only) of a month to a region at its egress prices; into a cloud is free at all six."""
        whole = month_gb(self.uplink_bps)
        return tuple(Stream(region=region, gb=gb, usd=tiered_usd(price, gb)) for gb in (whole, whole * self.anomaly_share))  # type: ignore[return-value]


def monthly_usd(price: Price, gb: float, *, port_usd: float | None = 0.0) -> float | None:
    """USD a month for GB that leave at tiered prices, and a port; None where either is not known."""
    usd = tiered_usd(price, gb)
    return None if usd is None or port_usd is None else usd + port_usd


def break_even_gb(internet: Price, private: Price, port_usd: float | None, *, most_gb: float = 1e8) -> float | None:
    """GB a month from which a private link with its port is cheaper than the internet; None up to most_gb or where unknown."""

    def gain(gb: float) -> float | None:
        public, own = tiered_usd(internet, gb), monthly_usd(private, gb, port_usd=port_usd)
        return None if public is None or own is None else public - own

    low, high = 0.0, 1.0
    at = gain(high)
    while at is not None and at < 0:
        low, high = high, high * 2
        if high > most_gb:
            return None
        at = gain(high)
    if at is None:
        return None
    while high - low > max(1e-3, 1e-9 * high):
        middle = (low + high) / 2
        found = gain(middle)
        assert found is not None
        low, high = (middle, high) if found < 0 else (low, middle)
    return high
