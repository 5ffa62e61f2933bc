"""What the benchmark measures as ours: one process with the ping engine and nothing else.

    python bench/ping_parts/prober.py '{"targets": [...], "count": 3, "interval_s": 0.4, ...}'

Prints one line of JSON: RTTs by target (null: no reply), outcomes, and what the process used between its first packet and its
last result. With "idle" it opens the engine, says so, and waits for its standard input to end.
"""

import asyncio
import json
import resource
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

from probes.ping.icmp import IcmpEngine


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
    rtts: dict[str, list[int | None]] = {}
    seen: Counter[tuple[str | None, ...]] = Counter()
    lags_ms: list[float] = []
    open_mb = rss_mb()

    async def one(target: str) -> None:
        """As an agent does it: round after round, and nothing kept of a round but what it adds up to (or its RTTs, when asked for)."""
        if asked.get("spread"):
            await asyncio.sleep(zlib.crc32(target.encode()) / 2**32 * interval_s)
        for number in range(asked.get("rounds", 1)):
            began = time.monotonic()
            samples = await engine.ping(target, **how)
            for sample in samples:
                seen[sample.outcome, sample.ts_source, sample.error, sample.failure_source] += 1
            lags_ms.append(max(sample.sched_lag_ns or 0 for sample in samples) / 1e6)
            if asked.get("rtts", True):
                rtts[target] = [sample.rtt_ns for sample in samples]
            if number + 1 < asked.get("rounds", 1):
                await asyncio.sleep(max(0, began + count * interval_s - time.monotonic()))

    async def blocker() -> None:
        while True:
            time.sleep(0.02)  # noqa: ASYNC251 (blocking the loop is the point)
            await asyncio.sleep(0.02)

    blocking = asyncio.create_task(blocker()) if asked.get("blocked") else None
    before, began = used(), time.monotonic()
    await asyncio.gather(*(one(target) for target in targets))
    wall_s, after = time.monotonic() - began, used()
    if blocking is not None:
        blocking.cancel()
    lags_ms.sort()
    found = {
        "rtts": rtts,
        "probes": seen.total(),
        "answered": sum(number for (outcome, *_), number in seen.items() if outcome == "reply"),
        "outcomes": {" ".join(str(part) for part in what if part is not None): number for what, number in seen.items()},
        "wall_s": wall_s,
        "cpu_s": after[0] - before[0],
        "wakeups": after[1] - before[1],
        # Of each round's latest packet.
        "lag_ms": {"p50": lags_ms[len(lags_ms) // 2], "p99": lags_ms[int(0.99 * (len(lags_ms) - 1))]},
        "rss_mb": {"open": open_mb, "end": rss_mb()},
        "why": engine.why,
    }
    print(json.dumps(found))
    await engine.close()


asyncio.run(main())
