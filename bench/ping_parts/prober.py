"""What the benchmark measures as ours: one process with the ping engine and nothing else.

    python bench/ping_parts/prober.py '{"targets": [...], "count": 3, "interval_s": 0.4, ...}'

Prints one line of JSON: RTTs by target (null: no reply), outcomes, and what the process used between its first packet and its
last result. With "idle" it opens the engine, says so, and waits for its standard input to end.
"""

import asyncio
import json
import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path

from probes.ping import IcmpEngine


def used() -> tuple[float, int, int]:
    """CPU seconds, voluntary and involuntary context switches so far."""
    now = resource.getrusage(resource.RUSAGE_SELF)
    return now.ru_utime + now.ru_stime, now.ru_nvcsw, now.ru_nivcsw


def rss_mb() -> float:
    """Resident memory now."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def main() -> None:
    asked = json.loads(sys.argv[1])
    engine = IcmpEngine(asked.get("mode"), packets_per_s=asked.get("packets_per_s", 30_000))
    await engine.open()
    if asked.get("idle"):
        print(json.dumps({"rss_mb": rss_mb()}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        return
    targets, count, interval_s = asked["targets"], asked["count"], asked["interval_s"]
    how = {
        "count": count,
        "interval_ns": round(interval_s * 1e9),
        "timeout_ns": round(asked.get("timeout_s", 2) * 1e9),
        "payload_bytes": 56,
    }
    phases = random.Random(1)
    open_mb = rss_mb()

    async def one(target: str):
        if asked.get("spread"):
            await asyncio.sleep(phases.random() * interval_s)
        return await engine.ping(target, **how)

    async def blocker() -> None:
        while True:
            time.sleep(0.02)
            await asyncio.sleep(0.02)

    blocking = asyncio.create_task(blocker()) if asked.get("blocked") else None
    before, began = used(), time.monotonic()
    rounds = await asyncio.gather(*(one(target) for target in targets))
    wall_s, after = time.monotonic() - began, used()
    if blocking is not None:
        blocking.cancel()
    samples = [sample for samples in rounds for sample in samples]
    lags_ms = sorted((sample.sched_lag_ns or 0) / 1e6 for sample in samples)
    print(
        json.dumps(
            {
                "rtts": {target: [sample.rtt_ns for sample in samples] for target, samples in zip(targets, rounds, strict=True)}
                if asked.get("rtts", True)
                else None,
                "probes": len(samples),
                "answered": sum(sample.outcome == "reply" for sample in samples),
                "ts_sources": Counter(sample.ts_source for sample in samples if sample.ts_source is not None),
                "failures": Counter(
                    f"{sample.outcome} {sample.error or ''} {sample.failure_source}" for sample in samples if sample.rtt_ns is None
                ),
                "wall_s": wall_s,
                "sending_s": wall_s - how["timeout_ns"] / 1e9 * any(sample.outcome == "timeout" for sample in samples),
                "cpu_s": after[0] - before[0],
                "wakeups": after[1] - before[1],
                "lag_ms": {"p50": lags_ms[len(lags_ms) // 2], "p99": lags_ms[int(0.99 * (len(lags_ms) - 1))]},
                "rss_mb": {"open": open_mb, "end": rss_mb()},
                "why": engine.why,
            }
        )
    )
    await engine.close()


asyncio.run(main())
