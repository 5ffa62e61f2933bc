"""From a path and a pool to a distribution: draws of every part, added request by request."""

from __future__ import annotations

import heapq
import math
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from records.histogram import RELATIVE_ERROR
from records.link import LinkEstimate
from records.serving import Provenance, ServingPool
from records.units import MS
from routing.answer import Parts
from routing.breakeven import Arm
from routing.cost import Cost
from routing.draws import Draws, Together
from routing.latency import connect_ns, decode_ns, network_ns, prefill_ns, relay_ns, transfer_ns
from routing.network import Path
from routing.quantiles import DRAWS, Quantiles, effective_samples, nearest_rank, quantile_interval, quantiles
from routing.queueing import Queue
from routing.request import Request

__all__ = ["ASSUMED_ERROR_RATIO", "Candidate", "Ranked", "evaluate", "tied"]

Floats = NDArray[np.float64]
T = TypeVar("T", float, NDArray[np.float64])

#: Relative error taken for a performance profile that states none; assumptions, by where its figures come from.
ASSUMED_ERROR_RATIO: dict[Provenance, float] = {"measured": 0.05, "published": 0.10, "roofline": 0.30}
#: Samples taken to stand behind a measured link whose source does not say how many there were.
_UNKNOWN_COUNT = 10


@dataclass(frozen=True)
class Candidate:
    """A path with (or without) a pool, for a request; drawn when it is first looked at, since most never are.

    Arrays are [draws] of ns, element i the same request throughout. decode_ns, prefill_ns are constants of the pool at its
    load; 0 without one.
    """

    path: Path
    pool: ServingPool | None
    queue: Queue | None
    request: Request
    cost: Cost | None
    draws: Draws
    prefill_ns: float
    decode_ns: float

    @property
    def usd_per_1k(self) -> float | None:
        """USD per 1,000 requests; None where it is not known."""
        return None if self.cost is None else self.cost.usd_per_1k

    @cached_property
    def relay_ns(self) -> float:
        """What the relays add to the round trip."""
        return relay_ns(len(self.path.relays), self.request.relay_ms * MS)

    @cached_property
    def together(self) -> Together:
        """How the legs are drawn."""
        return "independent" if self.moments is None else "replay"

    @cached_property
    def moments(self) -> int | None:
        """How many moments of the legs are replayed; None where each leg is drawn by itself."""
        return self.draws.moments(self.path.legs)

    @cached_property
    def _legs_ns(self) -> list[Floats]:
        return self.draws.legs(self.path.legs)[0]

    @cached_property
    def _network_ns(self) -> Floats:
        return reduce(np.add, self._legs_ns) if self._legs_ns else np.zeros(DRAWS)

    @cached_property
    def rtt_ns(self) -> Floats:
        """The round trip over all legs, what the relays add included."""
        return self._network_ns + self.relay_ns

    @cached_property
    def connect_ns(self) -> Floats:
        """The hand-shakes."""
        return self._connect_ns(self._legs_ns[0], self.rtt_ns) if self._legs_ns else connect_ns(self.rtt_ns, self.request.connection)

    @cached_property
    def upload_ns(self) -> Floats:
        """The request's way there: half of what the relays add is on it too, and is shown as its own part."""
        return self._network_ns / 2 + self._transfers_ns(self._legs_ns, self.rtt_ns)

    @cached_property
    def wait_ns(self) -> Floats:
        """For a slot of the pool."""
        if self.pool is None or self.queue is None:
            return np.zeros(DRAWS)
        return self.queue.wait_draws_ns(self.draws.uniforms(f"queue/{self.pool.id}"))

    @cached_property
    def network_ns(self) -> Floats:
        """The first token's way back."""
        return network_ns(self._network_ns)

    def _connect_ns(self, first: T, rtt: T) -> T:
        """Hand-shakes on the leg where the client's connection ends, and on those behind it."""
        request = self.request
        if not (self.path.access or request.relay_mode == "terminate"):
            return connect_ns(rtt, request.connection)
        return connect_ns(first, request.connection) + connect_ns(rtt - first, request.onward)

    def _transfers_ns(self, legs: Sequence[T], rtt: T) -> T:
        """Slow start and the least rate: over all legs together, or leg by leg where relays end connections."""
        path = self.path
        if self.request.relay_mode == "terminate" and len(path.legs) > 1:
            return reduce(operator.add, (self._transfer_ns(rtts, (leg,)) for leg, rtts in zip(path.legs, legs, strict=True)))
        return self._transfer_ns(rtt, path.legs)

    def _transfer_ns(self, rtt: T, legs: tuple[LinkEstimate, ...]) -> T:
        return transfer_ns(
            self.request.workload.upload_bytes,
            rtt,
            throughput_bps=_least_throughput_bps(legs),
            loss_ratio=_joint_loss_ratio(legs),
            share_bps=self.request.share_bps,
        )

    @cached_property
    def least_ttft_ns(self) -> float:
        """No more than the median TTFT, without a draw: what allows to leave a candidate undrawn.

        TTFT rises with each of its m legs, and no wait is below 0. Let each leg be at a value that at most rank / m of its draws
        are below; then at most `rank` draws of TTFT are below TTFT there (the union bound), whatever the legs share.
        """
        path = self.path
        rank = nearest_rank(0.5, DRAWS) // max(1, len(path.legs))
        legs = self.draws.least(path.legs, rank)
        network = sum(legs)
        rtt = network + self.relay_ns
        connect = self._connect_ns(legs[0], rtt) if legs else 0.0
        upload = network / 2 + (self._transfers_ns(legs, rtt) if legs else self._transfer_ns(rtt, ()))
        return (connect + upload + self.relay_ns + self.prefill_ns + network / 2) * (1 - 1e-9)

    @cached_property
    def ttft_ns(self) -> Floats:
        """Time to first token: the sum of everything but decode. Without a pool: the round trip and its hand-shakes."""
        return self.connect_ns + self.upload_ns + self.relay_ns + self.wait_ns + self.prefill_ns + self.network_ns

    @cached_property
    def e2e_ns(self) -> Floats:
        """End to end: TTFT and the other tokens."""
        return self.ttft_ns + self.decode_ns

    @cached_property
    def ttft_p50_ns(self) -> float:
        """The median of TTFT, which is what most candidates are only asked for."""
        rank = nearest_rank(0.5, len(self.ttft_ns))
        return float(np.partition(self.ttft_ns, rank)[rank])

    @cached_property
    def ttft(self) -> Quantiles:
        """Quantiles of TTFT."""
        return quantiles(self.ttft_ns)

    @cached_property
    def e2e(self) -> Quantiles:
        """Quantiles of E2E: those of TTFT later by the decode, which is the same for every draw."""
        return Quantiles(*(value + self.decode_ns for value in (self.ttft.p50_ns, self.ttft.p95_ns, self.ttft.p99_ns)))

    def objective(self, request: Request) -> tuple[Any, ...]:
        """What candidates are ranked by, least first; then fewer legs, then names, so that an order is always the same."""
        median_ns = self.ttft_p50_ns + (self.decode_ns if request.objective == "e2e" else 0.0)
        order = (median_ns, len(self.path.legs), self.path.sites, "" if self.pool is None else self.pool.id, self.path.key)
        if request.objective != "cost":
            return order
        return (math.inf if self.cost is None or self.cost.usd_per_1k is None else self.cost.usd_per_1k, *order)

    def least_objective(self, request: Request) -> tuple[float, ...]:
        """No more than the first figures of `objective`, without a draw."""
        least_ns = self.least_ttft_ns + (self.decode_ns if request.objective == "e2e" else 0.0)
        if request.objective != "cost":
            return (least_ns,)
        return (math.inf if self.cost is None or self.cost.usd_per_1k is None else self.cost.usd_per_1k, least_ns)

    def objective_ns(self, request: Request) -> float:
        """The median that the request's objective looks at: E2E for e2e, else TTFT."""
        return self.ttft_p50_ns + (self.decode_ns if request.objective == "e2e" else 0.0)

    def arm(self, request: Request) -> Arm:
        """This candidate as one side of a break-even; needs a pool and its queue."""
        assert self.pool is not None
        assert self.queue is not None
        rtt_ns = float(np.median(self.rtt_ns))
        legs = self.path.legs

        def transfer(size_bytes: int) -> float:
            return float(
                transfer_ns(
                    size_bytes,
                    rtt_ns,
                    throughput_bps=_least_throughput_bps(legs),
                    loss_ratio=_joint_loss_ratio(legs),
                    share_bps=request.share_bps,
                )
            )

        base_ns = self.ttft_p50_ns - transfer(request.workload.upload_bytes)
        return Arm(
            name=f"{self.pool.id} over {' → '.join(self.path.sites)}",
            ttft_ns=self.ttft_p50_ns,
            base_ns=base_ns,
            tpot_ns=self.pool.profile.alpha_ns + self.pool.profile.beta_ns * self.queue.batch,
            transfer_ns=transfer,
            device_usd=None if self.cost is None else self.cost.device_usd,
            usd_per_hour=self.pool.usd_per_hour,
            other_usd=None if self.cost is None else self.cost.egress_usd,
        )

    def budget_value_ns(self, request: Request) -> float:
        """What a budget is held against: the 95th percentile of TTFT, or of E2E when that is the objective."""
        return self.e2e.p95_ns if request.objective == "e2e" else self.ttft.p95_ns

    def parts(self) -> Parts:
        """Where the median request's time goes (see Parts)."""
        order = np.argsort(self.ttft_ns, kind="stable")
        middle = order[int(len(order) * 0.475) : max(1, math.ceil(len(order) * 0.525))]
        means = [float(part[middle].mean()) for part in (self.connect_ns, self.upload_ns, self.wait_ns, self.network_ns)]
        total = sum(means) + self.relay_ns + self.prefill_ns
        scale = self.ttft.p50_ns / total if total > 0 else 1.0
        connect, upload, wait, network = (mean * scale for mean in means)
        served = self.pool is not None
        return Parts(
            connect=connect,
            upload=upload,
            relay=self.relay_ns * scale,
            queue=wait if served else None,
            prefill=self.prefill_ns * scale if served else None,
            network=network,
            decode=self.decode_ns if served else None,
        )


def evaluate(path: Path, pool: ServingPool | None, queue: Queue | None, request: Request, *, cost: Cost | None, draws: Draws) -> Candidate:
    """A request over this path to this pool, its parts ready to be drawn.

    Hand-shakes: the client shakes hands (`connection`) with where its connection ends: a metro's at the ingress PoP, any
    other's at the serving site, through relays that forward packets and end nothing; with `relay_mode` terminate every
    relay ends it. The legs behind that are shaken hands on as `onward` says, which is warm where pools of connections are
    kept. The upload runs at the least throughput measured on a leg and at the loss of all legs together; where relays end
    connections, each leg starts slowly by itself and the waits add up (a relay that passes bytes on at once waits less).
    """
    return Candidate(
        path=path,
        pool=pool,
        queue=queue,
        request=request,
        cost=cost,
        draws=draws,
        prefill_ns=0.0 if pool is None else pool_prefill_ns(pool, request),
        decode_ns=0.0 if pool is None or queue is None else pool_decode_ns(pool, queue, request),
    )


def pool_prefill_ns(pool: ServingPool, request: Request) -> float:
    """The pool's prefill of this request, ns."""
    return prefill_ns(pool.profile.gamma_ns, pool.profile.delta_ns, request.workload.input_tokens, request.cache_hit_ratio)


def pool_decode_ns(pool: ServingPool, queue: Queue, request: Request) -> float:
    """The pool's decode of this request at the batch of its load, ns."""
    return decode_ns(pool.profile.alpha_ns, pool.profile.beta_ns, request.workload.output_tokens, queue.batch)


class Ranked:
    """Candidates in the order of their objective; only those are drawn that may stand before what is asked for."""

    def __init__(self, candidates: Iterable[Candidate], request: Request) -> None:
        self._request = request
        self._figures = 2 if request.objective == "cost" else 1
        self._done: list[Candidate] = []
        # What is not drawn stands at the least it can be, before what is known to be just that.
        self._heap: list[tuple[Any, ...]] = [(c.least_objective(request), False, (), n, c) for n, c in enumerate(candidates)]
        heapq.heapify(self._heap)

    def __iter__(self) -> Iterator[Candidate]:
        at = 0
        while at < len(self._done) or self._advance():
            yield self._done[at]
            at += 1

    def _advance(self) -> bool:
        while self._heap:
            _, drawn, _, number, candidate = self._heap[0]
            if drawn:
                heapq.heappop(self._heap)
                self._done.append(candidate)
                return True
            order = candidate.objective(self._request)
            heapq.heapreplace(self._heap, (order[: self._figures], True, order[self._figures :], number, candidate))
        return False


def tied(a: Candidate, b: Candidate, request: Request) -> bool:
    """Whether the evidence cannot tell which of two candidates is better by the objective.

    Requests are paired (shared legs have the same draws and cancel): tied when zero lies in the 95 % interval of the
    median difference, for as many samples as stand behind the legs that are not shared (1 for a modelled leg), widened
    by the histogram's resolution and, for different profiles, by the profiles' relative error. Costs are tied when equal.
    """
    if request.objective == "cost":
        costs = [None if c.cost is None else c.cost.usd_per_1k for c in (a, b)]
        return costs[0] is not None and costs[1] is not None and math.isclose(costs[0], costs[1], rel_tol=1e-9)
    keys_a, keys_b = ({leg.key for leg in c.path.legs} for c in (a, b))
    own = [leg for c, others in ((a, keys_b), (b, keys_a)) for leg in c.path.legs if leg.key not in others]
    e2e = request.objective == "e2e"
    difference = a.e2e_ns - b.e2e_ns if e2e else a.ttft_ns - b.ttft_ns
    interval = quantile_interval(difference, 0.5, effective_samples(own) or _UNKNOWN_COUNT)
    margin = RELATIVE_ERROR * max((leg.rtt_p50_ns or 0 for leg in own if leg.histogram is not None), default=0)
    if a.pool is not None and b.pool is not None and a.pool.profile != b.pool.profile:
        margin += sum(_machine_error_ns(c, e2e=e2e) for c in (a, b))
    return interval.low_ns - margin <= 0 <= interval.high_ns + margin


def _machine_error_ns(candidate: Candidate, *, e2e: bool) -> float:
    assert candidate.pool is not None
    profile = candidate.pool.profile
    ratio = profile.error_ratio if profile.error_ratio is not None else ASSUMED_ERROR_RATIO[profile.provenance]
    return ratio * (candidate.prefill_ns + (candidate.decode_ns if e2e else 0.0))


def _least_throughput_bps(legs: tuple[LinkEstimate, ...]) -> float | None:
    return min((leg.throughput_bps for leg in legs if leg.throughput_bps is not None), default=None)


def _joint_loss_ratio(legs: tuple[LinkEstimate, ...]) -> float | None:
    known = [leg.loss_ratio for leg in legs if leg.loss_ratio is not None]
    return 1 - math.prod(1 - loss for loss in known) if known else None
