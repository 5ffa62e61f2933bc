"""Why a route looks as it does, in words a person understands."""

from __future__ import annotations

from records.link import GATES, LinkEstimate
from records.units import MS
from routing.evaluate import Candidate
from routing.media import rank_rtt_ns
from routing.network import Network
from routing.request import Request

__all__ = ["reasons"]

_LOSS_WORTH_A_WORD = 0.01


def reasons(candidate: Candidate, request: Request, network: Network) -> tuple[str, ...]:
    """One sentence each: relays, what each weak leg rests on, loss, the pool's figures, queue, cost, the workload's limits."""
    found = [*_relay(candidate, request, network), *(text for leg in candidate.path.legs for text in _leg(leg, network))]
    return (*found, *_pool(candidate, request), *_limits(candidate, request))


def _relay(candidate: Candidate, request: Request, network: Network) -> list[str]:
    path = candidate.path
    if not path.legs:
        return [f"served at {path.origin} itself: no network leg"]
    if not path.relays:
        return []
    via = " and ".join(path.relays)
    start, end = path.sites[1 if path.access else 0], path.sites[-1]
    direct = network.leg(start, end, measured_only=True)
    if direct is None:
        gate = network.kept_out((start, end))
        why = f"the direct link was kept out ({GATES[gate]})" if gate else "the direct link is not measured"
        return [f"relay via {via}: {why}"]
    own = path.legs[1:] if path.access else path.legs
    over_relays_ms = sum(rank_rtt_ns(leg) or 0 for leg in own) / MS + len(path.relays) * request.relay_ms
    gain_ms = (rank_rtt_ns(direct) or 0) / MS - over_relays_ms
    if gain_ms > 0:
        return [f"relay via {via} saves {gain_ms:.1f} ms against direct"]
    return [f"relay via {via} costs {-gain_ms:.1f} ms against direct: an alternative, not a gain"]


def _leg(leg: LinkEstimate, network: Network) -> list[str]:
    name = f"leg {leg.src} → {leg.dst}"
    if leg.evidence == "modelled":
        gate = network.kept_out((leg.src, leg.dst))
        why = f"its measurement was kept out ({GATES[gate]})" if gate else "no measurement"
        return [f"{name} modelled: {why}"]
    found = [f"{name} assumed from the measured {leg.dst} → {leg.src}"] if leg.evidence == "assumed" else []
    if leg.rtt_from == "tcp":
        found.append(f"{name}: no ping is answered there; RTT of TCP hand-shakes, packet loss not known")
    if leg.histogram is None and leg.rtt_p95_ns is None:
        found.append(f"{name}: how its RTT varies is not known; p95 and p99 are the least that they can be")
    if leg.loss_ratio is not None and leg.loss_ratio > _LOSS_WORTH_A_WORD:
        found.append(f"{name} loses {leg.loss_ratio * 100:.1f} % of packets")
    return found


def _pool(candidate: Candidate, request: Request) -> list[str]:
    pool, queue = candidate.pool, candidate.queue
    if pool is None or queue is None:
        return [f"no pool at {candidate.path.sites[-1]} serves {request.workload.model}: only the network is known"]
    found = []
    if pool.profile.provenance != "measured":
        error = f", ± {pool.profile.error_ratio * 100:.0f} %" if pool.profile.error_ratio is not None else ""
        found.append(f"prefill and decode from {pool.profile.provenance} figures for {pool.accelerator}{error}")
    if queue.wait_mean_ns >= 0.05 * MS:
        found.append(f"waits {queue.wait_mean_ns / MS:.1f} ms for a slot on average ({queue.utilisation * 100:.0f} % of the pool taken)")
    if candidate.cost is not None and candidate.cost.rent_usd_per_month:
        found.append(f"its private links' ports cost {candidate.cost.rent_usd_per_month:,.2f} USD a month, whatever is sent; not in USD/1k")
    if candidate.cost is not None and candidate.cost.unknown:
        found.append(f"cost unknown: no price for {', '.join(candidate.cost.unknown)}")
    return found


def _limits(candidate: Candidate, request: Request) -> list[str]:
    if candidate.pool is None:
        return []
    workload = request.workload
    limits = (("TTFT", workload.ttft_budget_ns, candidate.ttft.p95_ns), ("E2E", workload.e2e_budget_ns, candidate.e2e.p95_ns))
    return [
        f"{name} at p95 is {value_ns / MS:.0f} ms, over the {limit_ns / MS:.0f} ms that {workload.name} should keep"
        for name, limit_ns, value_ns in limits
        if limit_ns is not None and value_ns > limit_ns
    ]
