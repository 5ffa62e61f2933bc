"""A round of federated learning over a network: who aggregates, how long a round takes, what it sends.

Three shapes, named after the frameworks that run them so:

star          every client talks to one server (Flower's server and clients): model down, train, update up
hierarchical  clients to the nearest regional aggregator, those to a root (TensorFlow Federated's composed aggregations)
peer          no server: peers pass slices of the model round a ring until all hold the sum (ring all-reduce; the
              data-owners-only setting of PySyft): 2 (n - 1) steps of one n-th of the model each

against centralising: the raw data of a period go to one place once. Transfers follow routing.latency (slow start, then the
least of the client's rate and a fair share of the aggregator's line); nothing is lost, compute beside training is free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from records.errors import UserError
from routing.latency import fair_share_bps, transfer_ns

__all__ = ["Centralised", "Federation", "Round", "centralised", "hierarchical", "peer", "star"]

#: Two sites -> their median RTT in ns.
RttOf = Callable[[str, str], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation:
    """Clients, what moves, and how fast. Rates are bits per second; raw_bytes what one client would send to centralise.

    Raises UserError for no client, a size or rate that is none.
    """

    clients: tuple[str, ...]
    model_bytes: int
    update_bytes: int
    train_ns: float
    client_bps: float
    aggregator_bps: float
    raw_bytes: int

    def __post_init__(self) -> None:
        if not self.clients or len(set(self.clients)) < len(self.clients):
            raise UserError("a federation needs clients, each once")
        for name in ("model_bytes", "update_bytes", "raw_bytes", "train_ns"):
            if not getattr(self, name) >= 0:
                raise UserError(f"federation: {name} {getattr(self, name)} is not a number from 0 up")
        for name in ("client_bps", "aggregator_bps"):
            if not getattr(self, name) > 0:
                raise UserError(f"federation: {name} {getattr(self, name)} is no rate; give bits a second above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round: its time, all bytes on the network, where it is aggregated (nowhere for peers), the client all wait for."""

    shape: str
    round_ns: float
    sent_bytes: int
    aggregator: str | None
    slowest: str
    regional: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Centralised:
    """All raw data in one place: how long until the last byte is there, and how many they are."""

    site: str
    upload_ns: float
    sent_bytes: int
    slowest: str


def _way_ns(size: int, rtt_ns: float, share_bps: float, client_bps: float) -> float:
    return rtt_ns / 2 + transfer_ns(size, rtt_ns, throughput_bps=client_bps, share_bps=share_bps)


def _there_and_back(f: Federation, site: str, clients: Sequence[str], rtt: RttOf) -> dict[str, float]:
    """Client -> model down, training, update up, ns; clients share the aggregator's line."""
    share = fair_share_bps(f.aggregator_bps, len(clients))
    found = {}
    for client in clients:
        rtt_ns = rtt(client, site)
        found[client] = (
            _way_ns(f.model_bytes, rtt_ns, share, f.client_bps) + f.train_ns + _way_ns(f.update_bytes, rtt_ns, share, f.client_bps)
        )
    return found


def star(f: Federation, candidates: Sequence[str], rtt: RttOf) -> Round:
    """The star with the aggregator that makes the round shortest; of equals the first by name."""
    if not candidates:
        raise UserError("a star needs a site to aggregate at")
    times = {site: _there_and_back(f, site, f.clients, rtt) for site in candidates}
    best = min(candidates, key=lambda site: (max(times[site].values()), site))
    slowest = max(f.clients, key=lambda client: (times[best][client], client))
    return Round(
        shape="star",
        round_ns=times[best][slowest],
        sent_bytes=len(f.clients) * (f.model_bytes + f.update_bytes),
        aggregator=best,
        slowest=slowest,
        regional={},
    )


def hierarchical(f: Federation, regional: Sequence[str], roots: Sequence[str], rtt: RttOf) -> Round:
    """Clients aggregate at the nearest of `regional`, those at the best of `roots`."""
    if not regional or not roots:
        raise UserError("a hierarchy needs regional aggregators and a root")
    home = {client: min(regional, key=lambda site: (rtt(client, site), site)) for client in f.clients}
    used = sorted(set(home.values()))
    leaf: dict[str, float] = {}
    for site in used:
        leaf |= _there_and_back(f, site, [client for client in f.clients if home[client] == site], rtt)
    share = fair_share_bps(f.aggregator_bps, len(used))

    def trunk_ns(site: str, root: str) -> float:
        rtt_ns = rtt(site, root)
        return _way_ns(f.model_bytes, rtt_ns, share, f.aggregator_bps) + _way_ns(f.update_bytes, rtt_ns, share, f.aggregator_bps)

    totals = {root: {client: leaf[client] + trunk_ns(home[client], root) for client in f.clients} for root in roots}
    best = min(roots, key=lambda root: (max(totals[root].values()), root))
    slowest = max(f.clients, key=lambda client: (totals[best][client], client))
    return Round(
        shape="hierarchical",
        round_ns=totals[best][slowest],
        sent_bytes=(len(f.clients) + sum(site != best for site in used)) * (f.model_bytes + f.update_bytes),
        aggregator=best,
        slowest=slowest,
        regional=home,
    )


def peer(f: Federation, rtt: RttOf) -> Round:
    """A ring in the order of the nearest next peer from the first by name; every step waits for its slowest pair."""
    left = sorted(f.clients)
    ring = [left.pop(0)]
    while left:
        nearest = min(left, key=lambda client: (rtt(ring[-1], client), client))
        left.remove(nearest)
        ring.append(nearest)
    n = len(ring)
    piece = -(-f.update_bytes // n)
    steps = (
        {ring[i]: _way_ns(piece, rtt(ring[i], ring[(i + 1) % n]), f.client_bps, f.client_bps) for i in range(n)}
        if n > 1
        else {ring[0]: 0.0}
    )
    slowest = max(ring, key=lambda client: (steps[client], client))
    return Round(
        shape="peer",
        round_ns=f.train_ns + 2 * (n - 1) * steps[slowest],
        sent_bytes=2 * (n - 1) * piece * n if n > 1 else 0,
        aggregator=None,
        slowest=slowest,
        regional={},
    )


def centralised(f: Federation, candidates: Sequence[str], rtt: RttOf) -> Centralised:
    """Every client's raw data to the candidate where the last byte arrives first."""
    if not candidates:
        raise UserError("centralising needs a site to send to")
    share = fair_share_bps(f.aggregator_bps, len(f.clients))
    times = {site: {client: _way_ns(f.raw_bytes, rtt(client, site), share, f.client_bps) for client in f.clients} for site in candidates}
    best = min(candidates, key=lambda site: (max(times[site].values()), site))
    slowest = max(f.clients, key=lambda client: (times[best][client], client))
    return Centralised(site=best, upload_ns=times[best][slowest], sent_bytes=len(f.clients) * f.raw_bytes, slowest=slowest)
