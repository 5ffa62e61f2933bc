"""docs/lab.md says all there is to say: every key of a topology, every command, every world; and no more."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from app.commands.lab import lab as lab_command
from lab import reading, script
from lab.reading import parse
from lab.topology import available, builtin

DOC = Path(__file__).parents[2] / "docs" / "lab.md"


def rows(heading: str) -> list[str]:
    """What the first column of the table under a heading names, without its operands."""
    section = re.split(r"^##+ ", DOC.read_text("utf-8"), flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(f"{heading}\n")]
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("heading", "keys"),
    [
        ("Top level", reading.TOP_KEYS),
        ("sites", reading.SITE_KEYS),
        ("routers", reading.ROUTER_KEYS),
        ("links", reading.LINK_KEYS),
        ("events", script.EVENT_KEYS),
        ("congestion", script.CONGESTION_KEYS),
    ],
)
def test_every_key_is_documented(heading: str, keys: tuple[str, ...]) -> None:
    """The reference of each table has a row for each key, and none for a key there is not."""
    assert sorted(rows(heading)) == sorted(keys)


def test_every_command_and_world_is_documented() -> None:
    """The tables of commands and of worlds have a row for each."""
    assert sorted(name.split()[1] for name in rows("Commands")) == sorted(lab_command.commands)
    assert sorted(rows("Worlds")) == sorted(available())


def test_the_triangle_is_as_described() -> None:
    """The relay's 35 ms one way against 100 are what its links say."""
    link = builtin("triangle").link_by_key
    assert sum(link[a, b, "internet"].delay_ns for a, b in (("a", "in-ab"), ("in-ab", "b"))) == 100e6
    assert sum(link[a, b, "internet"].delay_ns for a, b in (("a", "in-ah"), ("in-ah", "hub"), ("hub", "in-hb"), ("in-hb", "b"))) == 35e6


def test_the_examples_are_read() -> None:
    """The topology and the script on the page are what the lab accepts."""
    example, events = re.findall(r"```toml\n(.*?)```", DOC.read_text("utf-8"), re.DOTALL)
    assert len(parse(tomllib.loads(example), "the page").links) == 4
    world = builtin("world-24").document() | tomllib.loads(events)
    assert [str(event.action) for event in parse(world, "the page").events] == ["fail site sin", "restore site sin"]
