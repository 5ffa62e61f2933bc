"""The faults of what is between machines and beside them: PostgreSQL, S3, certificates, and agents that come back after an outage."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

from lab.faults.collector import ROOT
from lab.faults.fleet import PACKETS, Fleet, Send
from lab.faults.judge import Outcome
from lab.faults.servers import S3, Postgres, postgres, s3
from lab.faults.stage import Stage
from warehouse.certificate import make_certificate

__all__ = ["all_reconnect", "certificate_expired", "postgres_restarted", "s3_restarted", "week_cut_off"]


def postgres_restarted(stage: Stage) -> Outcome:
    """PostgreSQL, which holds the catalog, is stopped at once (SIGQUIT) while agents send, and started again."""
    return _scaled_out(stage, lambda catalog, _: catalog.stop(), lambda catalog, _: catalog.start())


def s3_restarted(stage: Stage) -> Outcome:
    """The S3 storage, which holds the files, is killed (SIGKILL) while agents send, and started again."""
    return _scaled_out(stage, lambda _, storage: storage.stop(), lambda _, storage: storage.start())


def _scaled_out(stage: Stage, end, begin) -> Outcome:  # type: ignore[no-untyped-def]
    with ExitStack() as stack:
        catalog: Postgres = stack.enter_context(postgres())
        storage: S3 = stack.enter_context(s3(stage.folder / "s3"))
        catalog.run((ROOT / "deploy" / "postgres.sql").read_text(), database="postgres", variables=("-v", "database=wh"))
        stage.warehouse = catalog.address("wh", "s3://isochrone/wh")
        collector = stage.collector(environ=storage.environ)
        collector.start()
        fleet = stage.fleet(collector.url, agents=4, lines_per_s=5)
        fleet.start()
        stage.stored(collector, 50)
        end(catalog, storage)
        stage.until(lambda: fleet.troubled == fleet.agents, "every agent is told that its batch is not stored")
        time.sleep(stage.pick(5, 1))
        begin(catalog, storage)
        times = stage.watch(collector).wait()
        refused = sum(send.status == 503 for send in fleet.sends)
        stack.enter_context(_environment(storage.environ))
        return stage.judge(times, notes=[f"{refused} batches answered 503; the collector was not started again"])


def _environment(values: dict[str, str]) -> ExitStack:
    """Variables of this process for as long as it reads the warehouse."""
    import os

    before = {name: os.environ.get(name) for name in values}
    stack = ExitStack()

    def restore() -> None:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    os.environ.update(values)
    stack.callback(restore)
    return stack


def certificate_expired(stage: Stage) -> Outcome:
    """The collector's certificate expires under way; after a while the operator makes a new one. Nothing is started again."""
    folder = stage.folder / "tls"
    paths = make_certificate(folder, ["127.0.0.1"], days=90, now=datetime.now(UTC))
    collector = stage.collector(tls=(paths["server.pem"], paths["server.key"]))
    collector.start()
    # Batches further apart than a connection is kept, so that each shakes hands.
    agent = stage.agent(collector.url, batch_max_age_s=6, ca_file=paths["ca.pem"])
    agent.start()
    stage.stored(collector, 20)
    good_s = stage.pick(12, 5)
    make_certificate(folder, ["127.0.0.1"], days=1, now=datetime.now(UTC) - timedelta(days=1) + timedelta(seconds=good_s))
    ends_s = time.monotonic() + good_s - 1  # its times are in whole seconds
    stage.until(lambda: "CERTIFICATE_VERIFY_FAILED" in agent.said(), "the agent says that the certificate expired")
    if time.monotonic() < ends_s:
        raise AssertionError("the certificate was refused before it had expired")
    time.sleep(stage.pick(10, 1))
    make_certificate(folder, ["127.0.0.1"], days=90, now=datetime.now(UTC))
    times = stage.watch(collector).wait()
    return stage.judge(times, notes=[f"the agent said: {agent.sentence('CERTIFICATE_VERIFY_FAILED')}"])


def all_reconnect(stage: Stage) -> Outcome:
    """350 agents lose the collector, go on measuring at the reference rate, and find it again."""
    agents, outage_s = int(stage.pick(350, 60)), stage.pick(75, 8)
    paths = make_certificate(stage.folder / "tls", ["127.0.0.1"], days=90, now=datetime.now(UTC))  # none of the system's hundreds to read
    collector = stage.collector()
    fleet = stage.fleet(collector.url, agents=agents, lines_per_s=2900 / PACKETS / 350, batch_max_age_s=5, ca_file=paths["ca.pem"])
    fleet.open()
    collector.start()
    fleet.go()
    stage.stored(collector, agents)
    collector.kill()
    stage.until(lambda: fleet.troubled == agents, "every agent has noticed", timeout_s=60)
    time.sleep(outage_s)
    collector.start(is_awaited=False)
    collector.wait_ready()
    back_s = time.monotonic()
    times = stage.watch(collector).wait(timeout_s=240)
    tries = [send for send in list(fleet.sends) if send.at_s >= back_s]
    busy = sum(send.status == 429 for send in tries)
    at_once = max(Counter(int(send.at_s - back_s) for send in tries).values())
    return stage.judge(
        times,
        notes=[
            f"{agents} agents, away for {outage_s:.0f} s after the last had noticed; {busy} answers 429",
            f"at most {at_once} uploads in one second",
        ],
        figures={"agents": agents, "busy": busy, "uploads_in_a_second": at_once},
    )


def week_cut_off(stage: Stage) -> Outcome:
    """One PoP is cut off for a simulated week at the reference rate, while others send; its agent's own spool keeps the week."""
    seconds = stage.pick(7 * 86400, 3 * 3600)
    rate = 2900 / PACKETS / 350
    collector = stage.collector()
    collector.start()
    others = stage.fleet(collector.url, agents=5, lines_per_s=5, prefix="other-")
    others.start()
    cut_off = stage.fleet(collector.url, agents=1, lines_per_s=rate, batch_max_age_s=5)
    cut_off.open()
    began_s = time.monotonic()
    _fill(cut_off, seconds, rate)
    filled_s = time.monotonic() - began_s
    member = cut_off.members[0]
    size_mb, dropped, batches = member.spool.size_bytes / 1e6, member.spool.dropped_measurements, member.spool.waiting
    time.sleep(stage.pick(10, 5))
    quiet = _answers(others, began_s + filled_s)
    synced_s = time.monotonic()
    watch = stage.watch(collector)
    cut_off.go()
    times = watch.wait(timeout_s=900)
    took_s = max(times[1] or 0.0, 1e-9)
    busy = _answers(others, synced_s)
    sent = (member.made - dropped) * PACKETS
    return stage.judge(
        times,
        allowed=dropped * PACKETS,
        bound="what the spool's bound (256 MB) dropped, oldest first, counted",
        notes=[
            f"{member.made * PACKETS:,} packets in {batches:,} batches, {size_mb:.0f} MB on the disk",
            f"{dropped:,} measurements dropped by the bound",
            f"re-synced at {sent / took_s:,.0f} packets a second",
            f"the others' batches were answered in {quiet:.1f} s (p95) before and {busy:.1f} s meanwhile",
        ],
        figures={"packets_per_s": sent / took_s, "others_p95_before_s": quiet, "others_p95_meanwhile_s": busy, "spool_mb": size_mb},
    )


def _fill(fleet: Fleet, seconds: float, rate: float) -> None:
    """What an agent without a collector does in so many seconds, at once: it seals when a segment is full or as old as the keeper says."""
    from probes.keeper import OFFLINE_AGE_S

    member = fleet.members[0]
    start_ns = time.time_ns() - int(seconds * 1e9)
    second = opened = 0.0
    while second < seconds:
        step = 10.0
        member.put(int((second + step) * rate) - int(second * rate), start_ns + int(second * 1e9))
        second += step
        if second - opened >= OFFLINE_AGE_S:
            member.spool.seal()
            opened = second
        elif member.spool.has_full:
            member.spool.seal_full()
            opened = second
    member.spool.seal()


def _answers(fleet: Fleet, since_s: float) -> float:
    """How long batches took to be answered 200, p95 in seconds."""
    took = [send.took_s for send in list[Send](fleet.sends) if send.at_s >= since_s and send.status == 200]
    return statistics.quantiles(took, n=20)[-1] if len(took) > 1 else float("nan")
