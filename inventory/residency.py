"""The tables of law: jurisdictions of countries, groups of countries, and the residency rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from inventory.countries import COUNTRIES
from inventory.rows import BadRow, Faults, Row, read_table
from records.residency import DATA_CLASSES, ResidencyRule

__all__ = ["COUNSEL", "Group", "Jurisdictions", "read_groups", "read_jurisdictions", "read_rules"]

#: What is said wherever rules are shown.
COUNSEL = "The rules are a planner's reading of law and no legal advice: counsel decides what holds for your data."

JURISDICTION_COLUMNS = ("country", "jurisdiction", "source", "as_of")
GROUP_COLUMNS = ("id", "title", "countries", "source", "as_of")
RULE_COLUMNS = (
    *("id", "title", "jurisdiction", "data_class", "applies_to", "process", "store", "transit_plaintext", "transit_ciphertext"),
    *("conditions", "in_force_from", "variant_of", "source", "as_of", "note"),
)

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]*")
_DAY = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Countries that a rule names together, such as those the EU found adequate."""

    id: str
    title: str
    countries: frozenset[str]
    source: str
    as_of: str


class Jurisdictions:
    """Whose law holds in a country, and what a word of a mask stands for.

    named   country -> jurisdiction where that is not the country's own code
    groups  by id
    """

    def __init__(self, of: Mapping[str, str], groups: Mapping[str, Group]) -> None:
        self.named = dict(of)
        self.groups = dict(groups)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Jurisdictions) and (self.named, self.groups) == (other.named, other.groups)

    __hash__ = None  # type: ignore[assignment]

    def of(self, country: str) -> str:
        """The jurisdiction of a country: EU, EEA, US, ...; a country that the table does not name is one of its own."""
        return self.named.get(country, country)

    def known(self, jurisdiction: str) -> bool:
        """Whether a name is a jurisdiction: a country's code or one that the table names."""
        return jurisdiction in COUNTRIES or jurisdiction in self.named.values()

    def expand(self, word: str) -> frozenset[str] | None:
        """The countries a word means: a group, a jurisdiction with all its parts, or a country; None: it means none."""
        if word in self.groups:
            return self.groups[word].countries
        parts = frozenset(country for country, jurisdiction in self.named.items() if jurisdiction == word)
        return parts | {word} if word in COUNTRIES else parts or None

    def countries(self, column: str, text: str) -> frozenset[str]:
        """The countries of a list of words, where ``any`` is every country and ``-X`` takes X out; raises BadRow."""
        found: set[str] = set()
        for word in text.split():
            name = word.removeprefix("-")
            meant = frozenset(COUNTRIES) if name == "any" else self.expand(name)
            if meant is None:
                raise BadRow(
                    f"{column} {name!r} is no country (ISO 3166-1 alpha-2), no jurisdiction and no group; "
                    f"groups are {', '.join(self.groups) or 'none'}; any is every country"
                )
            found = found - meant if word.startswith("-") else found | meant
        if not found:
            raise BadRow(f"{column} {text!r} leaves no country")
        return frozenset(found)

    def words(self, mask: frozenset[str] | None) -> str:
        """A mask as a person writes it: the fewest of groups, jurisdictions and countries found greedily; ``any`` for None.

        >>> from inventory.load import load
        >>> load().jurisdictions.words(load().rules["gdpr"].process)
        'EEA'
        """
        if mask is None:
            return "any"
        missing = frozenset(COUNTRIES) - mask
        if len(missing) < len(mask):
            return " ".join(["any", *(word[1:] if word.startswith("-") else f"-{word}" for word in self.words(missing).split())])
        sets = {name: group.countries for name, group in self.groups.items()}
        sets |= {name: parts for name in set(self.named.values()) if (parts := self.expand(name)) and name not in sets}
        words: list[str] = []
        left = set(mask)
        for name, countries in sorted(sets.items(), key=lambda item: (-len(item[1]), item[0])):
            if countries <= mask and countries & left == countries:
                words.append(name)
                left -= countries
        for country in sorted(left):
            # The code of a country with parts of its own (US) means them too: those that are not meant are taken out.
            words += [country, *(f"-{part}" for part in sorted((self.expand(country) or frozenset()) - mask))]
        return " ".join(words)


def read_jurisdictions(path: Path, faults: Faults) -> dict[str, str]:
    """Country -> jurisdiction where it is not the country's own code, from CSV; faults are noted."""

    def make(row: Row) -> tuple[str, str]:
        row.text("country")
        country = row.country()
        assert country is not None
        _dated(row)
        return country, row.text("jurisdiction")

    return dict(read_table(path, JURISDICTION_COLUMNS, make, lambda pair: pair[0], faults))


def read_groups(path: Path, of: Mapping[str, str], faults: Faults) -> dict[str, Group]:
    """Groups of countries by id from CSV; a group may name jurisdictions and the groups above it; faults are noted."""
    groups: dict[str, Group] = {}

    def make(row: Row) -> Group:
        _dated(row)
        if row.text("id") == "any" or row.text("id") in COUNTRIES:
            raise BadRow(f"id {row.text('id')!r} is taken: it means {'every country' if row.text('id') == 'any' else 'a country'}")
        group = Group(
            id=row.text("id"),
            title=row.text("title"),
            countries=Jurisdictions(of, groups).countries("countries", row.text("countries")),
            source=row.text("source"),
            as_of=row.as_of(),
        )
        groups.setdefault(group.id, group)
        return group

    read_table(path, GROUP_COLUMNS, make, lambda group: group.id, faults)
    return groups


def read_rules(path: Path, jurisdictions: Jurisdictions, faults: Faults) -> list[ResidencyRule]:
    """Residency rules from CSV; a mask is ``any`` or a list of countries, jurisdictions and groups; faults are noted."""
    above: set[str] = set()

    def mask(row: Row, column: str) -> frozenset[str] | None:
        text = row.text(column)
        return None if text == "any" else jurisdictions.countries(column, text)

    def make(row: Row) -> ResidencyRule:
        rule_id, variant_of, day = row.text("id"), row.optional("variant_of"), row.text("in_force_from")
        if not _SLUG.fullmatch(rule_id):
            raise BadRow(f"id {rule_id!r} is not a slug; use lower-case letters, digits and '-', as in uk-gdpr")
        if not jurisdictions.known(row.text("jurisdiction")):
            raise BadRow(f"jurisdiction {row.text('jurisdiction')!r} is neither a country's code nor one of the table of jurisdictions")
        if not _DAY.fullmatch(day):
            raise BadRow(f"in_force_from {day!r} is not a day; write YYYY-MM-DD")
        if variant_of is not None and variant_of not in above:
            raise faults.missing(variant_of, f"variant_of {variant_of!r} is no rule above this one; a variant follows its default reading")
        rule = ResidencyRule(
            id=rule_id,
            title=row.text("title"),
            jurisdiction=row.text("jurisdiction"),
            data_class=row.one_of("data_class", tuple(name for name in DATA_CLASSES if name != "public")),
            applies_to=jurisdictions.countries("applies_to", row.text("applies_to")),
            process=mask(row, "process"),
            store=mask(row, "store"),
            transit_plaintext=mask(row, "transit_plaintext"),
            transit_ciphertext=mask(row, "transit_ciphertext"),
            conditions=row.optional("conditions") or "",
            in_force_from=day,
            variant_of=variant_of,
            source=row.text("source"),
            as_of=row.as_of(),
            note=row.optional("note") or "",
        )
        if variant_of is None:
            above.add(rule_id)
        return rule

    return read_table(path, RULE_COLUMNS, make, lambda rule: rule.id, faults)


def _dated(row: Row) -> None:
    row.text("source")
    row.as_of()
