"""The faults that `make faults` does, and the judgement itself, which must see what is missing.

One fault is done in every run (15 s: it starts a collector and an agent and waits for packets); the others are `slow`.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lab.faults import report
from lab.faults.fleet import PACKETS
from lab.faults.stage import stage
from records.errors import OutsideError

pytestmark = [pytest.mark.alone, pytest.mark.waits, pytest.mark.timeout(400)]


def _check(name: str) -> None:
    try:
        outcome = report.run(name, is_short=True)
    except OutsideError as error:
        pytest.skip(str(error))
    assert outcome.is_kept, outcome
    assert outcome.made > 0
    assert not outcome.rejects


def test_the_agents_disk_is_full() -> None:
    """It goes on, counts what it could not keep, and is right again when there is room; nothing else is lost."""
    _check("disk-full-agent")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in report.SCENARIOS if name != "disk-full-agent"])
def test_a_fault(name: str) -> None:
    """Nothing is lost beyond the stated bound, nothing doubled or broken, and all becomes right again."""
    _check(name)


def test_what_is_missing_is_seen() -> None:
    """A segment that vanishes from a spool behind the agent's back is lost: the judgement says so, and how many packets it held."""
    with stage(is_short=True) as one:
        collector = one.collector()
        fleet = one.fleet(collector.url, agents=2, lines_per_s=0.01)
        fleet.open()
        for member in fleet.members:
            for count in (3, 4):
                member.put(count, time.time_ns())
                member.spool.seal()
        victim = fleet.members[0].spool.oldest()
        assert victim is not None
        fleet.members[0].spool.done(victim)
        collector.start()
        watch = one.watch(collector)
        fleet.go()
        outcome = one.judge(watch.wait(60))
    assert victim.measurements == 3
    assert outcome.lost == outcome.made - outcome.stored == 3 * PACKETS
    assert not outcome.is_kept
    assert not outcome.faults


def test_the_page_tells_every_scenario_that_there_is() -> None:
    """docs/faults.md was written by a run of all of them."""
    page = (Path(__file__).parents[2] / "docs" / "faults.md").read_text(encoding="utf-8")
    assert [name for name in report.SCENARIOS if f"| {name} |" not in page] == []
