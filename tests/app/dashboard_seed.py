"""TEST DATA for the dashboard's tests: a small warehouse written through the collector's own parser and store.

Nothing here was measured. Agents are called ``test-*`` and the engine ``test-data/1``, so that no row of it can be taken for a
measurement. RTTs are the fibre floor times a factor per link, plus seeded noise; the faults that a page must show (loss, a
route change, an impossible link, a degraded and a silent agent, a refused row) are put in on purpose and named in FAULTS.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

from inventory.load import load
from records.batch import BatchName, Line, encode_line
from records.link import Medium
from records.measurement import (
    AgentStatus,
    Hop,
    HttpResult,
    InferenceResult,
    MplsLabel,
    PingResult,
    PingSample,
    ThroughputResult,
    TracerouteResult,
)
from records.place import Site, fibre_floor_ns
from records.units import MS, SECOND
from warehouse import open_warehouse
from warehouse.ingest import parse
from warehouse.queries import put_sites
from warehouse.store import store

POPS = ("sin", "fra", "iad", "sjc", "nrt", "gru", "syd", "bom")
REGIONS = (
    "aws:us-east-1",
    "azure:westeurope",
    "gcp:asia-southeast1",
    "alibaba:cn-hongkong",
    "tencent:ap-tokyo",
    "oracle:sa-saopaulo-1",
)

#: What is wrong on purpose: (src, dst) of the lossy, the impossible and the changed link; the agents that are not well.
FAULTS = {
    "lossy": ("gru", "gcp:asia-southeast1"),
    "impossible": ("bom", "alibaba:cn-hongkong"),
    "changed": ("sin", "aws:us-east-1"),
    "degraded": "test-syd",
    "silent": "test-nrt",
}


def sites() -> list[Site]:
    """The places of the test world, from the inventory."""
    known = load().sites
    return [known[name] for name in (*POPS, *REGIONS) if name in known]


def _samples(rng: random.Random, at_ns: int, rtt_ns: float, loss: float) -> tuple[PingSample, ...]:
    samples = []
    for number in range(5):
        sent_at_ns = at_ns + number * 100 * MS
        if rng.random() < loss:
            samples.append(PingSample(sequence=number, outcome="timeout", sent_at_ns=sent_at_ns))
            continue
        noise = 1 + rng.expovariate(60) + (rng.random() if rng.random() < 0.02 else 0) * 0.4
        samples.append(
            PingSample(
                sequence=number, outcome="reply", sent_at_ns=sent_at_ns, rtt_ns=round(rtt_ns * noise), ts_source="kernel_txrx", reply_ttl=54
            )
        )
    return tuple(samples)


class _Agent:
    """Writes the lines of one pretended agent."""

    def __init__(self, site: Site, rng: random.Random) -> None:
        self.site, self.rng = site, rng
        self.name, self.boot = f"test-{site.id}", f"{rng.getrandbits(64):016x}"
        self.number = 0
        self.lines: list[Line] = []

    def head(self, dst: Site, medium: Medium, at_ns: int) -> dict[str, object]:
        self.number += 1
        return {
            "id": f"{self.boot}-{self.number}",
            "agent": self.name,
            "src": self.site.id,
            "dst": dst.id,
            "medium": medium,
            "target": "192.0.2.1",
            "started_at_ns": at_ns,
            "engine": "test-data/1",
        }

    def measure(self, dst: Site, medium: Medium, start_ns: int, end_ns: int, every_ns: int) -> None:
        rng = random.Random(f"{self.site.id}{dst.id}{medium}")
        low, high = (1.15, 1.35) if medium == "backbone" else (1.4, 2.6)
        pair = random.Random("".join(sorted((self.site.id, dst.id))) + medium)
        rtt_ns = max(0.4 * MS, fibre_floor_ns(self.site, dst) * pair.uniform(low, high) + 0.3 * MS)
        if (self.site.id, dst.id) == FAULTS["impossible"]:
            rtt_ns = fibre_floor_ns(self.site, dst) * 0.5
        loss = 0.12 if (self.site.id, dst.id) == FAULTS["lossy"] else 0.002
        changed = (self.site.id, dst.id) == FAULTS["changed"]
        middle = (start_ns + end_ns) // 2
        offset = rng.randrange(every_ns)
        for at_ns in range(start_ns + offset, end_ns, every_ns):
            now_ns = rtt_ns * (1.18 if changed and at_ns > middle else 1)
            self.lines.append(
                PingResult(
                    **self.head(dst, medium, at_ns),
                    method="icmp",
                    timeout_ns=2 * SECOND,
                    samples=_samples(rng, at_ns, now_ns, loss),
                    payload_bytes=56,
                )  # type: ignore[arg-type]
            )
        for flow in (0, 1):
            for at_ns in range(start_ns + offset, end_ns, every_ns * 10):
                self.lines.append(self._trace(dst, medium, at_ns, rtt_ns, flow, via="b" if changed and at_ns > middle else "a"))
        if medium == "internet" and dst.kind == "region":
            for at_ns in range(start_ns + offset, end_ns, every_ns * 8):
                rate = round(rng.uniform(0.6, 1.0) * 400e6)
                self.lines.append(
                    ThroughputResult(
                        **self.head(dst, medium, at_ns),  # type: ignore[arg-type]
                        tool="builtin",
                        direction=rng.choice(("up", "down")),  # type: ignore[arg-type]
                        transferred_bytes=rate // 8,
                        duration_ns=SECOND,
                        throughput_bps=rate,
                        stop_reason="time",
                        tcp_rtt_ns=round(rtt_ns * 1.1),
                    )
                )
                ttft_ns = round(rtt_ns + rng.uniform(20, 60) * MS)
                self.lines.append(
                    InferenceResult(
                        **self.head(dst, medium, at_ns + SECOND),  # type: ignore[arg-type]
                        model="tiny",
                        outcome="ok",
                        connection="cold",
                        http_status=200,
                        tcp_ns=round(rtt_ns),
                        upload_ns=20_000,
                        ttfb_ns=ttft_ns - MS,
                        ttft_ns=ttft_ns,
                        e2e_ns=ttft_ns + 200 * MS,
                        prompt_tokens=64,
                        output_tokens=16,
                        token_gaps_ns=(10 * MS,) * 15,
                        is_streamed=True,
                    )
                )
                self.lines.append(
                    HttpResult(
                        **self.head(dst, medium, at_ns + 2 * SECOND),  # type: ignore[arg-type]
                        protocol="tls",
                        outcome="ok",
                        tcp_ns=round(rtt_ns) + MS,
                        tcp_rtt_ns=round(rtt_ns),
                        tls_ns=round(rtt_ns) + 3 * MS,
                        tls_version="TLSv1.3",
                        tls_verified=True,
                        total_ns=round(2 * rtt_ns) + 4 * MS,
                    )
                )

    def _trace(self, dst: Site, medium: Medium, at_ns: int, rtt_ns: float, flow: int, via: str) -> TracerouteResult:
        shares = (0.01, 0.04, 0.3, 0.55, 0.6, 0.97, 1.0)
        hops = []
        for ttl, share in enumerate(shares, start=1):
            if ttl == 5:
                hops.append(Hop(ttl=ttl, address=None, rtt_ns=None, probes=2, replies=0))
                continue
            address = f"198.51.100.{ttl + 10 * flow + (100 if via == 'b' and 2 < ttl < 7 else 0)}"
            mpls = (MplsLabel(label=24001, traffic_class=0, bottom=True, ttl=1),) if ttl == 4 else ()
            hops.append(
                Hop(
                    ttl=ttl,
                    address=address,
                    rtt_ns=round(rtt_ns * share),
                    probes=2,
                    replies=2,
                    ts_source="kernel_rx",
                    icmp_type=11,
                    icmp_code=0,
                    mpls=mpls,
                )
            )
        return TracerouteResult(
            **self.head(dst, medium, at_ns),  # type: ignore[arg-type]
            protocol="icmp",
            flow=flow,
            hops=tuple(hops),
            reached=True,
            path_hash=f"{via}{flow}" * 8,
        )

    def status(self, at_ns: int) -> None:
        produced: dict[str, int] = {}
        for line in self.lines:
            for kind, record in (
                ("ping", PingResult),
                ("traceroute", TracerouteResult),
                ("throughput", ThroughputResult),
                ("inference", InferenceResult),
                ("http", HttpResult),
            ):
                produced[kind] = produced.get(kind, 0) + isinstance(line, record)
        degraded = self.name == FAULTS["degraded"]
        self.lines.append(
            AgentStatus(
                agent=self.name,
                site=self.site.id,
                boot=self.boot,
                at_ns=at_ns - (900 * SECOND if self.name == FAULTS["silent"] else 0),
                version="0.1.0",
                uptime_ns=3600 * SECOND,
                produced=produced,
                skipped_rounds=0,
                spool_bytes=0,
                dropped_measurements=0,
                loop_lag_p99_ns=2 * MS,
                clock_error_ns=200_000,
                grade="degraded" if degraded else "ok",
                reasons=("loop lag above 20 ms",) if degraded else (),
            )
        )


def build(folder: Path, *, now: datetime | None = None, minutes: int = 40, every_s: int = 30, pops: tuple[str, ...] = POPS) -> Path:
    """Write the test world into a warehouse at `folder` and return the folder."""
    now = now or datetime.now(UTC)
    end_ns = int(now.timestamp()) * SECOND - 3 * SECOND
    start_ns = end_ns - minutes * 60 * SECOND
    places = sites()
    batches = []
    for place in places:
        if place.id not in pops:
            continue
        agent = _Agent(place, random.Random(place.id))
        for other in places:
            if other.id == place.id:
                continue
            agent.measure(other, "internet", start_ns, end_ns, every_s * SECOND)
            if other.kind == "pop":
                agent.measure(other, "backbone", start_ns, end_ns, every_s * SECOND)
        agent.status(end_ns)
        content = b"".join(encode_line(line) for line in agent.lines)
        if place.id == "gru":
            content += b'{"v":1,"type":"ping","id":"broken"}\n'
        batches.append(parse(content, BatchName(agent.name, agent.boot, 0), received_at=now))
    with open_warehouse(folder, mode="write") as writer:
        put_sites(writer, places)
        store(writer, batches)
    return folder


if __name__ == "__main__":
    import sys

    print(build(Path(sys.argv[1])))  # noqa: T201
