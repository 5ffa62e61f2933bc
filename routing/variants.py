"""Many scenarios from one: a grid over values of its edits' fields, or seeded draws of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any, Literal

import numpy as np

from records.errors import UserError
from routing.scenario import Scenario, checked, op_of

__all__ = ["Axis", "Spread", "Variant", "draws", "grid"]

#: Most scenarios that a grid or a draw may make.
MOST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A field of one edit (counted from 1) and the values it takes."""

    edit: int
    field: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A field of one edit and where it is drawn from: uniform between low and high, or lognormal with them as p5 and p95."""

    edit: int
    field: str
    low: float
    high: float
    shape: Literal["uniform", "lognormal"] = "uniform"


@dataclass(frozen=True, slots=True)
class Variant:
    """One scenario of many, and the values that make it: `2.factor` is the field `factor` of the second edit."""

    values: Mapping[str, Any]
    scenario: Scenario


def grid(scenario: Scenario, axes: Sequence[Axis]) -> list[Variant]:
    """Every combination of the axes' values, the last axis changing fastest. No axis: the scenario itself.

    Raises UserError for an edit or a field that is not there, a value it cannot take, or more than MOST scenarios.
    """
    count = math.prod(len(axis.values) for axis in axes)
    if count > MOST or count == 0:
        raise UserError(f"a grid of {count} scenarios; from 1 to {MOST} are allowed")
    for axis in axes:
        _check(scenario, axis.edit, axis.field)
    return [
        _variant(scenario, dict(zip([(a.edit, a.field) for a in axes], values, strict=True)))
        for values in product(*(a.values for a in axes))
    ]


def draws(scenario: Scenario, spreads: Sequence[Spread], *, count: int, seed: int) -> list[Variant]:
    """`count` scenarios with every spread drawn independently; the same seed draws the same, and more of it begins alike.

    Raises UserError as grid does, and for a spread that is none.
    """
    if not 1 <= count <= MOST:
        raise UserError(f"{count} draws; from 1 to {MOST} are allowed")
    for spread in spreads:
        _check(scenario, spread.edit, spread.field)
        if not (math.isfinite(spread.low) and math.isfinite(spread.high) and spread.low <= spread.high):
            raise UserError(f"{spread.edit}.{spread.field}: {spread.low} to {spread.high} is no range")
        if spread.shape == "lognormal" and spread.low <= 0:
            raise UserError(f"{spread.edit}.{spread.field}: a lognormal lies above 0, not at {spread.low}")
    found = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        values: dict[tuple[int, str], Any] = {}
        for spread in spreads:
            if spread.shape == "uniform":
                values[spread.edit, spread.field] = float(rng.uniform(spread.low, spread.high))
            else:
                middle, width = (math.log(spread.low) + math.log(spread.high)) / 2, (math.log(spread.high) - math.log(spread.low)) / 2
                values[spread.edit, spread.field] = float(math.exp(rng.normal(middle, width / 1.6448536269514722)))
        found.append(_variant(scenario, values))
    return found


def _check(scenario: Scenario, edit: int, field: str) -> None:
    if not 1 <= edit <= len(scenario.edits):
        raise UserError(f"{edit}.{field}: the scenario has {len(scenario.edits)} edits, counted from 1")
    known = [f.name for f in fields(scenario.edits[edit - 1])]
    if field not in known:
        raise UserError(f"{edit}.{field}: edit {edit} ({op_of(scenario.edits[edit - 1])}) has {', '.join(known)}")


def _variant(scenario: Scenario, values: Mapping[tuple[int, str], Any]) -> Variant:
    edits = list(scenario.edits)
    for (edit, field), value in values.items():
        edits[edit - 1] = replace(edits[edit - 1], **{field: checked(field, value, f"{edit}.{field}")})
    named = {f"{edit}.{field}": value for (edit, field), value in values.items()}
    label = ", ".join(f"{name}={value}" for name, value in named.items())
    return Variant(named, replace(scenario, name=f"{scenario.name} [{label}]" if label else scenario.name, edits=tuple(edits)))
