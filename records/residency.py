"""Residency: where the law lets data be processed, stored and passed through.

A rule is a reading of a law as four masks over countries, one for each activity. Several rules hold at once: what
is left is the intersection of their masks. A mask is a planner's reading and no legal advice; counsel decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["ACTIVITIES", "DATA_CLASSES", "Activity", "ResidencyRule", "allowed", "allows", "applicable", "applies", "binding"]

Activity = Literal["process", "store", "transit_plaintext", "transit_ciphertext"]

#: What is done with data at a place. transit_plaintext: TLS ends there; transit_ciphertext: only ciphertext passes.
ACTIVITIES: tuple[Activity, ...] = get_args(Activity)

#: A class of data -> the classes whose rules hold for it: health data are sensitive, and personal, too.
DATA_CLASSES: dict[str, frozenset[str]] = {
    "public": frozenset(),
    "personal": frozenset({"personal"}),
    "sensitive": frozenset({"sensitive", "personal"}),
    "health": frozenset({"health", "sensitive", "personal"}),
    "payment": frozenset({"payment", "personal"}),
    "important": frozenset({"important"}),
    "government": frozenset({"government"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidencyRule:
    """One law's say on where data may go, or one reading of it.

    id             slug, as in gdpr or pipl
    jurisdiction   whose law it is: EU, EEA, or a country's code
    data_class     what it protects (a key of DATA_CLASSES)
    applies_to     countries (ISO 3166-1 alpha-2) whose data subjects, or collection there, bring it into force
    process, store, transit_plaintext, transit_ciphertext
                   countries where that is allowed; None: everywhere
    conditions     what would allow more than the masks do (contracts, an assessment), in words; empty: nothing
    in_force_from  the day from which it binds, YYYY-MM-DD
    variant_of     the id of the rule that this is a wider or narrower reading of; None: the default reading
    """

    id: str
    title: str
    jurisdiction: str
    data_class: str
    applies_to: frozenset[str]
    process: frozenset[str] | None
    store: frozenset[str] | None
    transit_plaintext: frozenset[str] | None
    transit_ciphertext: frozenset[str] | None
    conditions: str
    in_force_from: str
    variant_of: str | None
    source: str
    as_of: str
    note: str

    def mask(self, activity: Activity) -> frozenset[str] | None:
        """The countries where an activity is allowed; None: everywhere."""
        mask: frozenset[str] | None = getattr(self, activity)
        return mask


def allows(rule: ResidencyRule, activity: Activity, country: str | None) -> bool:
    """Whether a rule lets an activity happen in a country.

    A country that is not known (None) is allowed only where every country is: what is not known is not permitted.
    """
    mask = rule.mask(activity)
    return mask is None or country in mask


def allowed(rules: Iterable[ResidencyRule], activity: Activity) -> frozenset[str] | None:
    """The countries where every rule allows an activity (the intersection of their masks); None: everywhere."""
    left: frozenset[str] | None = None
    for rule in rules:
        mask = rule.mask(activity)
        if mask is not None:
            left = mask if left is None else left & mask
    return left


def binding(rules: Iterable[ResidencyRule], activity: Activity, country: str | None) -> tuple[ResidencyRule, ...]:
    """The rules that forbid an activity in a country, in the order given; empty: it is allowed."""
    return tuple(rule for rule in rules if not allows(rule, activity, country))


def applies(rule: ResidencyRule, data_class: str, country: str | None) -> bool:
    """Whether a rule holds for data of a class (a key of DATA_CLASSES; KeyError else) from people in a country."""
    return rule.data_class in DATA_CLASSES[data_class] and country in rule.applies_to


def applicable(rules: Iterable[ResidencyRule], data_class: str, country: str | None, day: str) -> tuple[ResidencyRule, ...]:
    """The default readings (no variants) that hold for data of a class from a country on a day (YYYY-MM-DD)."""
    return tuple(rule for rule in rules if rule.variant_of is None and rule.in_force_from <= day and applies(rule, data_class, country))
