"""The residency rules as data: what they must say, and how masks are read and written."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from app.cli import root
from inventory.countries import COUNTRIES
from inventory.load import load, read
from inventory.residency import Jurisdictions
from records.errors import InputError
from records.residency import ACTIVITIES, allows, applicable, binding

#: Members of the European Union and of the EEA (Croatia since 2013, without the United Kingdom since 2020).
_EU = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
EU = set(_EU.split())


def test_at_least_ten_jurisdictions_beside_the_eu_and_china() -> None:
    """GDPR, UK GDPR, PIPL and many more."""
    inv = load()
    assert {"gdpr", "uk-gdpr", "pipl"} <= inv.rules.keys()
    assert len({rule.jurisdiction for rule in inv.rules.values()}) >= 25


def test_jurisdictions_are_those_of_the_treaties() -> None:
    """27 members and three EFTA states; Hong Kong is not mainland China's; what has no row is its own."""
    of = load().jurisdictions.of
    assert {c for c in COUNTRIES if of(c) == "EU"} - {"AX", "GF", "GP", "MF", "MQ", "RE", "YT"} == EU
    assert [of(c) for c in ("NO", "PR", "HK", "SG", "GB", "CH", "RE")] == ["EEA", "US", "HK", "SG", "GB", "CH", "EU"]


@pytest.mark.parametrize(
    ("rule", "activity", "yes", "no"),
    [
        ("gdpr", "process", "DE NO", "GB US CN"),
        ("gdpr", "transit_ciphertext", "US CN", ""),
        ("gdpr-adequacy", "process", "DE GB JP KR BR NZ", "US IN CN"),
        ("gdpr-dpf", "store", "US", "IN"),
        ("pipl", "process", "CN", "HK MO TW SG"),
        ("china-important", "transit_ciphertext", "CN", "HK US"),
        ("russia-242fz", "store", "RU", "KZ DE"),
        ("india-rbi-payment", "store", "IN", "SG"),
        ("india-rbi-payment", "process", "SG IN", ""),
        ("us-bulk-data", "process", "US DE PR", "CN HK RU"),
    ],
)
def test_rules_say_what_the_laws_are_read_to_say(rule: str, activity: str, yes: str, no: str) -> None:
    """Places on both sides of each border."""
    found = load().rules[rule]
    assert all(allows(found, activity, c) for c in yes.split())  # type: ignore[arg-type]
    assert not any(allows(found, activity, c) for c in no.split())  # type: ignore[arg-type]


def test_every_rule_lets_its_own_people_be_served_somewhere() -> None:
    """Data may always stay where they are: no rule, and no set of rules in force together, forbids home.

    The sole exception is a law that binds abroad as well; there is none in the table.
    """
    inv = load()
    for rule in inv.rules.values():
        home = {c for c in rule.applies_to if all(allows(rule, a, c) for a in ACTIVITIES)}
        assert home == rule.applies_to, rule.id
    for data_class in ("personal", "sensitive", "health", "payment", "important", "government"):
        for country in COUNTRIES:
            rules = applicable(inv.rules.values(), data_class, country, "2026-11-01")
            assert not binding(rules, "process", country), (data_class, country)


def test_a_variant_only_widens_and_conditions_are_named() -> None:
    """A variant allows what its default reading does, and each mask that keeps data at home says what would open it."""
    rules = load().rules
    for rule in rules.values():
        if rule.variant_of:
            for activity in ACTIVITIES:
                base, mask = rules[rule.variant_of].mask(activity), rule.mask(activity)
                assert mask is None or (base is not None and base <= mask), rule.id
        assert rule.conditions, rule.id


@given(st.frozensets(st.sampled_from(sorted(COUNTRIES)), min_size=1))
def test_a_mask_written_in_words_reads_back(mask: frozenset[str]) -> None:
    """`words` and `countries` are inverse to each other."""
    jurisdictions = load().jurisdictions
    assert jurisdictions.countries("process", jurisdictions.words(mask)) == mask


def test_words_take_out_what_is_behind_a_minus() -> None:
    """In order, left to right."""
    jurisdictions = Jurisdictions({"DE": "EU", "FR": "EU"}, {})
    assert jurisdictions.countries("store", "EU -FR CH") == {"DE", "CH"}


@pytest.mark.parametrize(
    ("name", "begins", "edit", "says"),
    [
        ("jurisdictions.csv", "DE,", ("DE,", "UK,"), r"country 'UK' is not .*did you mean GB"),
        ("country_groups.csv", "EEA,", ("EU EEA", "EU EFTA"), r"countries 'EFTA' is no country .*no jurisdiction and no group"),
        ("rules.csv", "pipl,", ("pipl,", "PIPL,"), r"id 'PIPL' is not a slug"),
        ("rules.csv", "pipl,", (",CN,personal", ",XX,personal"), r"jurisdiction 'XX' is neither a country's code nor"),
        ("rules.csv", "pipl,", (",personal,", ",public,"), r"data_class 'public' is not one of personal, sensitive"),
        ("rules.csv", "pipl,", (",CN,CN,CN,CN,any", ",CN,CN,CN,CN,"), r"transit_ciphertext is empty"),
        ("rules.csv", "pipl,", (",CN,CN,CN,CN,any", ",CN,CN -CN,CN,CN,any"), r"process 'CN -CN' leaves no country"),
        ("rules.csv", "pipl,", ("2021-11-01", "2021-11"), r"in_force_from '2021-11' is not a day; write YYYY-MM-DD"),
        ("rules.csv", "gdpr-dpf,", (",gdpr,", ",gdpr2,"), r"variant_of 'gdpr2' is no rule above"),
        ("rules.csv", "uk-gdpr,", ("uk-gdpr,", "gdpr,"), r"the same gdpr as in line 2"),
    ],
)
def test_each_fault_is_named_with_its_line(tmp_path: Path, name: str, begins: str, edit: tuple[str, str], says: str) -> None:
    """A bad row is named by file and line, and says what is allowed."""
    from shutil import copytree, ignore_patterns

    from inventory.load import BUILT_IN

    folder = tmp_path / "tables"
    copytree(BUILT_IN, folder, ignore=ignore_patterns("*.py", "__pycache__"))
    lines = (folder / name).read_text().splitlines()
    index = next(i for i, line in enumerate(lines) if line.startswith(begins))
    assert edit[0] in lines[index]
    lines[index] = lines[index].replace(*edit, 1)
    (folder / name).write_text("\n".join(lines))
    with pytest.raises(InputError, match=rf"{name}:{index + 1}: {says}"):
        read(folder)


def test_the_listing_warns_that_counsel_decides() -> None:
    """On standard error, so that the JSON stays one document."""
    result = CliRunner().invoke(root, ["inventory", "list", "rules"])
    assert result.exit_code == 0
    assert "counsel decides" in result.stderr
    assert "any -CONCERN" in result.stdout
