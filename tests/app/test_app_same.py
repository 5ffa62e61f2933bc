"""A page and the command line say the same: its sentences, and the command that a page prints, run as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from click.testing import CliRunner
from streamlit.testing.v1 import AppTest
from test_app_pages import Open, opened, world  # noqa: F401  fixtures

from app.cli import root


def printed(at: AppTest) -> list[str]:
    """The words of the command that a page prints."""
    (found,) = [command for caption in at.caption for command in re.findall(r"`(isochrone [^`]*)`", caption.value)]
    return shlex.split(found)


def test_a_rule_that_does_nothing_is_said_where_it_is_asked(opened: Open, world: Path) -> None:  # noqa: F811
    """GDPR for people in Brazil: the command's sentence; not for people in Germany, whom the address may name; nothing without a rule."""
    sentence = "gdpr does not hold for data of people in BR"
    assert [sentence in one.value for one in opened(world, "routes", src="gru", rules="gdpr").info] == [True]
    at = opened(world, "routes", src="gru", rules="gdpr", subject="DE")
    assert not at.info
    assert set(at.dataframe[0].value["route"].str.split(" → ").str[-1]) <= {"fra", "azure:westeurope"}
    assert printed(at)[-4:] == ["--residency", "gdpr", "--subject-country", "DE"]
    done = CliRunner().invoke(root, ["route", "--from", "gru", "--residency", "gdpr", "--warehouse", str(world)])
    assert f"{sentence}; --subject-country names another country" in done.stderr
