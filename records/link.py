"""The link estimate: the only thing routing eats, whoever measured or modelled it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from records.histogram import Histogram
from records.words import MEDIA, Medium

__all__ = ["EVIDENCE", "GATES", "MEDIA", "Evidence", "Gate", "Grain", "LinkEstimate", "Medium", "RttFrom"]

Evidence = Literal["measured", "modelled", "assumed"]
RttFrom = Literal["ping", "tcp", "import"]
Grain = Literal["raw", "minute", "hour", "day"]
Gate = Literal["ok", "faster_than_light", "asymmetric", "stale", "thin", "ungraded"]

EVIDENCE: tuple[Evidence, ...] = ("measured", "modelled", "assumed")

#: Why an estimate is kept out of the graph, in the order the gates are tried; only `ok` is routed over.
GATES: dict[Gate, str] = {
    "ok": "passed every gate",
    "faster_than_light": "least RTT below 98 % of the fibre floor of the great circle: impossible",
    "asymmetric": "an RTT is symmetric by nature; this direction is far below the other one",
    "stale": "the newest sample is older than the policy allows",
    "thin": "too few samples in the window",
    "ungraded": "from an agent that failed its own checks",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEstimate:
    """A directed pair of sites over one medium, with what is known of it over a window.

    rtt_*_ns       least RTT and quantiles in ns; None where not known (a matrix may give only one of them)
    loss_ratio     0..1; None when nothing was sent or the source does not say
    throughput_bps achieved, decimal bits per second; None when not measured
    sample_count   probe packets answered; None when the source does not say how many stand behind it
    age_s          age of the newest sample at the time of asking; None when the source is not dated
    evidence       measured, modelled or assumed; never ranked together silently
    gate           `ok`, or why it is kept out of the graph
    fibre_floor_ns least possible RTT over the great circle; inflation = rtt_p50_ns / fibre_floor_ns
    histogram      the RTT's distribution where samples are known; None for a matrix or a model
    rtt_from       what the RTT was taken from: probe packets (ping), TCP hand-shakes (tcp) or an import; None for a model
    grain          raw: counts and quantiles are of single samples, exact; minute, hour, day: of roll-ups, quantiles within 1 %; None for
                   an import or a model
    """

    src: str
    dst: str
    medium: Medium
    rtt_min_ns: int | None = None
    rtt_p50_ns: int | None = None
    rtt_p95_ns: int | None = None
    rtt_p99_ns: int | None = None
    loss_ratio: float | None = None
    throughput_bps: float | None = None
    sample_count: int | None = None
    age_s: float | None = None
    evidence: Evidence = "measured"
    gate: Gate = "ok"
    fibre_floor_ns: int | None = None
    inflation: float | None = None
    histogram: Histogram | None = None
    rtt_from: RttFrom | None = None
    grain: Grain | None = None

    @property
    def key(self) -> tuple[str, str, Medium]:
        """(src, dst, medium): what makes a link one link."""
        return (self.src, self.dst, self.medium)
