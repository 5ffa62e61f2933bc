"""Residency masks: an unknown country is not permitted, rules combine by intersection, variants do not pile up."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from records.residency import ACTIVITIES, ResidencyRule, allowed, allows, applicable, applies, binding

COUNTRIES = ("DE", "FR", "US", "CN", "SG", "BR")
MASKS = st.none() | st.frozensets(st.sampled_from(COUNTRIES), min_size=1)


def rule(mask: frozenset[str] | None, **fields: object) -> ResidencyRule:
    """A rule with the same mask for every activity."""
    made = ResidencyRule(
        id="r",
        title="R",
        jurisdiction="EU",
        data_class="personal",
        applies_to=frozenset({"DE"}),
        process=mask,
        store=mask,
        transit_plaintext=mask,
        transit_ciphertext=mask,
        conditions="",
        in_force_from="2018-05-25",
        variant_of=None,
        source="s",
        as_of="2025",
        note="",
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def test_each_activity_has_its_own_mask() -> None:
    """The four masks are not mixed up."""
    made = rule(None, process=frozenset({"DE"}), store=frozenset({"FR"}), transit_plaintext=frozenset({"US"}))
    assert [[c for c in ("DE", "FR", "US", "SG") if allows(made, a, c)] for a in ACTIVITIES] == [
        ["DE"],
        ["FR"],
        ["US"],
        ["DE", "FR", "US", "SG"],
    ]


def test_a_country_not_known_is_allowed_only_where_all_are() -> None:
    """Not known is not permitted."""
    assert allows(rule(None), "store", None)
    assert not allows(rule(frozenset({"DE"})), "store", None)


@given(st.lists(MASKS, max_size=4), st.sampled_from(COUNTRIES), st.sampled_from(ACTIVITIES))
def test_rules_combine_by_intersection(masks: list[frozenset[str] | None], country: str, activity: str) -> None:
    """A country is in the combined mask exactly where no rule binds."""
    rules = [rule(mask) for mask in masks]
    left = allowed(rules, activity)  # type: ignore[arg-type]
    assert (left is None or country in left) == all(mask is None or country in mask for mask in masks)
    assert (left is None or country in left) == (not binding(rules, activity, country))  # type: ignore[arg-type]


def test_health_data_come_under_rules_for_personal_data_and_not_the_other_way() -> None:
    """A class is protected by the rules of the wider classes it belongs to."""
    assert applies(rule(None), "health", "DE")
    assert not applies(rule(None, data_class="health"), "personal", "DE")
    assert not applies(rule(None), "public", "DE")
    assert not applies(rule(None), "personal", "FR")


def test_a_rule_holds_from_its_day_and_a_variant_only_when_named() -> None:
    """What applies by itself is the default reading, from the day it is in force."""
    rules = [rule(None), rule(None, id="wider", variant_of="r")]
    assert [r.id for r in applicable(rules, "personal", "DE", "2018-05-25")] == ["r"]
    assert applicable(rules, "personal", "DE", "2018-05-24") == ()
