"""The programme that grows: the same as SciPy's of the whole at once, value and duals, however it came about."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from routing.simplex import GrowingProgramme, Solution


def _entries(block: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows, columns = np.nonzero(block)
    return rows, columns, block[rows, columns]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), rows=st.integers(2, 12), columns=st.integers(2, 20), first=st.integers(1, 19), early=st.integers(1, 11))
def test_grown_in_parts_it_is_the_programme_of_the_whole(seed: int, rows: int, columns: int, first: int, early: int) -> None:
    """Demand to be met (one equality) at the least cost under random limits: some columns and rows come after the first answer."""
    rng = np.random.default_rng(seed)
    first, early = min(first, columns - 1), min(early, rows - 1)
    cost, matrix, most = rng.uniform(1, 9, columns), rng.uniform(0, 1, (rows, columns)), rng.uniform(1, 5, rows)
    # What is not met has a price, so that there is an answer whatever the limits.
    all_cost, all_matrix = np.append(cost, 50.0), np.column_stack((matrix, np.zeros(rows)))
    whole = linprog(all_cost, A_ub=all_matrix, b_ub=most, A_eq=np.ones((1, columns + 1)), b_eq=[4.0], bounds=(0, None), method="highs")

    grown = GrowingProgramme()
    grown.add_rows([4.0], [4.0])
    grown.add_rows(-np.inf, most[:early])
    grown.add_columns([50.0], ([0], [0], [1.0]))
    grown.add_columns(cost[:first], _entries(np.vstack((np.ones(first), matrix[:early, :first]))))
    before = grown.solve()
    grown.add_columns(cost[first:], _entries(np.vstack((np.ones(columns - first), matrix[:early, first:]))))
    wider = grown.solve()
    assert wider.value <= before.value + 1e-9
    at, along, values = _entries(matrix[early:])
    grown.add_rows(-np.inf, most[early:], (at, along + 1, values))  # after the column of what is not met
    found = grown.solve()

    assert (grown.rows, grown.columns) == (rows + 1, columns + 1)
    assert found.value == pytest.approx(whole.fun, rel=1e-9, abs=1e-9)
    assert _is_optimal(found, np.append(50.0, cost), np.column_stack((np.zeros(rows), matrix)), most)


def _is_optimal(found: Solution, cost: np.ndarray, matrix: np.ndarray, most: np.ndarray) -> bool:
    """Feasible in x and in its duals, and both have one value: what proves an optimum (duality), ties or none."""
    x, demand, limits = found.x, found.duals[0], found.duals[1:]
    reduced = cost - demand - matrix.T @ limits
    return bool(
        abs(x.sum() - 4.0) < 1e-6
        and (x > -1e-7).all()
        and (matrix @ x < most + 1e-6).all()
        and (limits < 1e-7).all()
        and (reduced > -1e-6).all()
        and abs(4.0 * demand + most @ limits - found.value) < 1e-6
    )


def test_without_an_answer_it_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    """Five of what may be at most three; nothing is printed, as some versions of the package do."""
    programme = GrowingProgramme()
    programme.add_rows([5.0, -np.inf], [5.0, 3.0])
    programme.add_columns([1.0], ([0, 1], [0, 0], [1.0, 1.0]))
    with pytest.raises(ValueError, match="no solution: Infeasible"):
        programme.solve()
    assert capfd.readouterr() == ("", "")
