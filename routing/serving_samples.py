"""From requests as a probe saw them to samples of the machine: the network taken off, the batch worked out.

Prefill: TTFT counts from the start of the upload, so it holds one round trip and what slow start makes a long prompt
wait. Both are taken off by the RTT that the kernel reports for that very connection (TCP_INFO, least seen): what is left
is the machine's. Only requests that were alone count, since a prompt that waits behind others says nothing of delta.

Decode: the batch of a request is the mean number of requests that were being decoded with it, itself included, per
device. Only our own requests are known: where others use the server too, the batch is a lower bound and alpha takes
up their load. Agents' clocks order the requests; they must agree to much less than a request takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from records.serving import ServedRequest, ServingSample
from routing.latency import transfer_ns

__all__ = ["Samples", "samples_of"]

Floats = NDArray[np.float64]

#: A request is alone when, over its prefill, fewer than this many others are served per device on the mean.
_ALONE = 0.05


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples, and why requests were left out of a half: reason -> how many."""

    samples: list[ServingSample]
    left_out: dict[str, int]


def samples_of(requests: Sequence[ServedRequest], *, devices: int = 1) -> Samples:
    """The samples of all requests to one serving pool of `devices` equal devices, over which requests spread evenly."""
    left_out: Counter[str] = Counter()
    if not requests:
        return Samples([], {})
    sent = np.array([r.sent_at_ns for r in requests], dtype=np.int64)
    sent = (sent - sent.min()).astype(np.float64)  # epoch ns do not fit into a float
    first = sent + np.array([r.ttft_ns for r in requests], dtype=np.float64)
    last = np.maximum(first, sent + np.array([r.e2e_ns for r in requests], dtype=np.float64))
    others = _mean_concurrency(sent, last, sent, first) - 1
    batches = np.maximum(1.0, _mean_concurrency(first, last, first, last) / devices)
    samples = []
    for request, other, batch in zip(requests, others, batches, strict=True):
        problem, prefill_ns = _prefill(request, float(other) / devices)
        if problem:
            left_out[problem] += 1
        if request.token_ns is None:
            left_out["decode: too few tokens, or all at once"] += 1
        known = prefill_ns is not None
        samples.append(
            ServingSample(
                prompt_tokens=request.prompt_tokens if known else None,
                prefill_ns=prefill_ns,
                batch=None if request.token_ns is None else float(batch),
                token_ns=request.token_ns,
            )
        )
    return Samples(samples, dict(left_out))


def _prefill(request: ServedRequest, others: float) -> tuple[str | None, float | None]:
    """(why not, machine's part of TTFT): one of the two."""
    if request.rtt_ns is None:
        return "prefill: no round trip of the connection is known", None
    if request.prompt_tokens is None:
        return "prefill: the server does not count the prompt's tokens", None
    if others > _ALONE:
        return "prefill: not alone on the server", None
    left = request.ttft_ns - request.rtt_ns - transfer_ns(request.request_bytes or 0, float(request.rtt_ns))
    return (None, left) if left > 0 else ("prefill: the first token came sooner than the network allows", None)


def _mean_concurrency(starts: Floats, ends: Floats, begins: Floats, finishes: Floats) -> Floats:
    """For each window [begin, finish): the mean over it of how many intervals [start, end) are open; O(n log n).

    A window of no length has the number open at its beginning.
    """

    def passed(at: Floats, edges: Floats) -> Floats:
        """Sum over edges before each time of (time - edge)."""
        ordered = np.sort(edges)
        sums = np.concatenate(([0.0], np.cumsum(ordered)))
        count = np.searchsorted(ordered, at)
        return at * count - sums[count]

    def open_until(at: Floats) -> Floats:
        return passed(at, starts) - passed(at, ends)

    length = finishes - begins
    at_once = np.searchsorted(np.sort(starts), begins, side="right") - np.searchsorted(np.sort(ends), begins, side="right")
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (open_until(finishes) - open_until(begins)) / length
    return np.where(length > 0, mean, at_once.astype(np.float64))
