"""A scenario built by hand: every form gives edits that the scenario's own parser takes; an address holds a scenario whole."""

from __future__ import annotations

import base64
import contextlib
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.scenario_form import EDITS, MOST_BYTES, from_address, rows_of, sentence, to_address, with_values
from app.whatif import case_names, read_document
from inventory.load import load
from records.errors import UserError
from routing.scenario import parse

SAMPLE: dict[str, Any] = {
    "site": "sin",
    "provider": "aws",
    "country": "DE",
    "rules": ["gdpr"],
    "workload": "chat",
    "accelerator": "l4",
}


@pytest.mark.parametrize("op", list(EDITS))
def test_every_form_makes_an_edit_that_is_taken(op: str) -> None:
    """With each field as it starts (or a known id), with and without what is optional."""
    for with_optional in (False, True):
        edit: dict[str, Any] = {"op": op}
        for number, field in enumerate(EDITS[op].fields):
            if field.optional and not with_optional:
                continue
            value = field.usual if field.usual is not None else SAMPLE[field.kind]
            edit[field.name] = "fra" if field.kind == "site" and number == 1 else value
        document = {"name": "n", "edits": [edit]}
        scenario = parse(document, known=load().sites)
        assert len(scenario.edits) == 1
        assert sentence(edit).startswith(EDITS[op].title)


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.floats(allow_nan=False) | st.text(), st.lists, max_leaves=5), max_size=5))
def test_an_address_holds_a_scenario_whole(document: dict[str, Any]) -> None:
    """What goes in comes out, and the word needs no quoting."""
    word = to_address(document)
    assert from_address(word) == document
    assert word.replace("-", "").replace("_", "").isalnum()


@given(st.text(max_size=200))
def test_any_word_is_a_scenario_or_a_clear_refusal(word: str) -> None:
    """No word of an address gets past as anything else than an object."""
    with contextlib.suppress(UserError):
        assert isinstance(from_address(word), dict)


def test_a_bomb_is_refused() -> None:
    """A small word that unpacks to a great text is not unpacked whole."""
    packed = zlib.compress(json.dumps({"name": "x" * (MOST_BYTES * 50)}).encode(), 9)
    with pytest.raises(UserError, match="longer than"):
        from_address(base64.urlsafe_b64encode(packed).decode())


@pytest.mark.parametrize("name", [name for name in case_names() if "edits" in read_document(name)])
def test_a_table_that_nobody_touched_changes_nothing(name: str) -> None:
    """Every shipped scenario comes back from its table as it was, whatever its values are."""
    edits = read_document(name)["edits"]
    assert with_values(edits, [row["value"] for row in rows_of(edits)]) == edits


def test_values_are_typed_over_and_taken_out() -> None:
    """A number, a list and a whole number get the kind of their field; an empty cell is not given."""
    edits: list[dict[str, Any]] = [
        {"op": "burst", "factor": 3.0, "site": "sin"},
        {"op": "set_residency", "rules": ["gdpr"]},
        {"op": "resize", "site": "fra", "devices": 8},
    ]
    rows = rows_of(edits)
    wanted = {(1, "Demand times"): "4.5", (1, "Site (none: all)"): "", (2, "Rules"): "gdpr, pipl", (3, "Devices"): "2"}
    values = [wanted.get((row["number"], row["field"]), row["value"]) for row in rows]
    assert with_values(edits, values) == [
        {"op": "burst", "factor": 4.5},
        {"op": "set_residency", "rules": ["gdpr", "pipl"]},
        {"op": "resize", "site": "fra", "devices": 2},
    ]


def test_a_word_for_a_number_is_refused_with_its_place() -> None:
    """Which change, which value, what is wanted; the same for a fraction of a device."""
    with pytest.raises(UserError, match=r"change 1: Demand times is 'many'; give a number"):
        with_values([{"op": "set_demand", "factor": 2.0}], ["many", ""])
    with pytest.raises(UserError, match=r"change 1: Devices is '1.5'; give a whole number"):
        with_values([{"op": "resize", "site": "fra", "devices": 8}], ["fra", "1.5", ""])
