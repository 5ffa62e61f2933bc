"""A share of what `make fuzz` gives: nothing that reads what comes from outside falls over, whatever it is given."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzzing import MOST_GROWTH, SHARES, fuzz


def _fine(found: dict[str, object]) -> None:
    assert found["faults"] == []
    assert found["tracebacks"] == 0, found["log"]
    assert found["is_alive"]


def test_a_thousand_inputs_make_nothing_fall_over(tmp_path: Path) -> None:
    """To the collector's front door and to every decoder: no 5xx, no answer that is not described, no exception but refusals."""
    assert sum(SHARES.values()) == 100
    said: list[str] = []
    found = fuzz(1000, tmp_path, said.append)
    _fine(found)
    assert found["inputs"] >= 900, "of some operations there are fewer requests than asked for"
    assert len(said) == len(SHARES)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_thousand_inputs_cost_no_memory(tmp_path: Path) -> None:
    """In ten rounds; over the last seven both processes grow by less than a stated share of what they have."""
    found = fuzz(20_000, tmp_path, lambda _line: None)
    _fine(found)
    for name, by in found["growth"].items():
        assert by <= MOST_GROWTH, (name, found["rss_mb"][name])
