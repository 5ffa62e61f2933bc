"""A linear programme that grows: rows and columns are added, and solving goes on from the basis of before.

    least  cost x   with   lower <= A x <= upper,   x >= 0

HiGHS's own simplex method (Huangfu and Hall 2018). Its presolve is left out: a programme is solved again and again after small additions,
which it would forget the basis for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["GrowingProgramme", "Solution"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """The best of a programme: its value, x by column, and by row what one more of its bound adds to the value."""

    value: float
    x: Floats
    duals: Floats


class GrowingProgramme:
    """See the module. Entries are (rows, columns, values), in any order, each place at most once."""

    def __init__(self) -> None:
        self._highs: Any = highspy.Highs()  # type: ignore[no-untyped-call]
        self._highs.setOptionValue("output_flag", False)
        self._highs.setOptionValue("presolve", "off")
        self._highs.setOptionValue("solver", "simplex")

    @property
    def rows(self) -> int:
        """How many there are."""
        return int(self._highs.getNumRow())

    @property
    def columns(self) -> int:
        """How many there are."""
        return int(self._highs.getNumCol())

    def add_rows(self, lower: ArrayLike, upper: ArrayLike, entries: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None) -> None:
        """Rows between bounds, one for each of `upper`; entries by row of these, from 0, and column of all."""
        most = np.asarray(upper, dtype=np.float64)
        least = np.broadcast_to(np.asarray(lower, dtype=np.float64), most.shape)
        starts, index, values = _compressed(len(most), *(entries or ((), (), ())))
        self._highs.addRows(len(most), np.ascontiguousarray(least), most, len(values), starts, index, values)

    def add_columns(self, cost: ArrayLike, entries: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None) -> None:
        """Columns from 0 up, one for each of `cost`; entries by row of all, and column of these, from 0."""
        costs = np.asarray(cost, dtype=np.float64)
        rows, columns, values = entries or ((), (), ())
        starts, index, kept = _compressed(len(costs), columns, rows, values)
        most = np.full(len(costs), highspy.kHighsInf)
        self._highs.addCols(len(costs), costs, np.zeros(len(costs)), most, len(kept), starts, index, kept)

    def solve(self) -> Solution:
        """The best now. Raises ValueError where there is none."""
        self._highs.run()
        status = self._highs.getModelStatus()
        for presolve in ("off", "on"):  # numbers far apart: once more from nothing, and made simpler first
            if status == highspy.HighsModelStatus.kOptimal:
                break
            self._highs.clearSolver()
            self._highs.setOptionValue("presolve", presolve)
            self._highs.run()
            self._highs.setOptionValue("presolve", "off")
            status = self._highs.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            raise ValueError(f"the programme has no solution: {self._highs.modelStatusToString(status)}")
        found = self._highs.getSolution()
        return Solution(
            value=float(self._highs.getInfo().objective_function_value), x=np.array(found.col_value), duals=np.array(found.row_dual)
        )


def _compressed(count: int, major: ArrayLike, minor: ArrayLike, values: ArrayLike) -> tuple[NDArray[np.int32], NDArray[np.int32], Floats]:
    """Entries as HiGHS takes them: where each of `count` begins, the other index, the value."""
    majors = np.asarray(major, dtype=np.int32)
    order = np.argsort(majors, kind="stable")
    starts = np.searchsorted(majors[order], np.arange(count)).astype(np.int32)
    return starts, np.asarray(minor, dtype=np.int32)[order], np.asarray(values, dtype=np.float64)[order]
