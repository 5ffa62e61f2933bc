"""Lines of a TOML text, held against texts written one value to a line, and against the reader of the standard library."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.toml_lines import lines_of

# Every value is the number of its own line, so that the text says itself where everything stands.
MARKED = '''# a comment = 1
one = 2
dotted . "quoted \\" key" . 'literal.key' = 3
text = """ 4
[not.a.table]
x = "5"
""" # 7
more = \'\'\'
[[neither]] = 9\'\'\'\'\'
list = [ 10, 10, # ] comment
    [ 11, { a = 11, b.c = 11 } ],
    12,
]

[table]
key = 16
string = "[ { # = 17"
[table.sub]
key = 19
[[rows]]
key = 21
inline = { a = 22, b = [22, { c = 22 }], "d]" = 22 }
[[rows]]
key = 24
[rows.inner]
key = 26
[[rows.deep]]
key = 28
[[rows.deep]]
key = 30
'''


def leaves(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], object]]:
    """Every value that holds no others, with the way to it; an empty array or table is one too."""
    children = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, child in children:
        yield from leaves(child, (*path, key))
    if not children:
        yield path, value


def test_every_value_is_found_in_its_line() -> None:
    """Quoted and dotted keys, strings that look like tables, nested arrays, inline tables, arrays of tables."""
    lines = lines_of(MARKED)
    for path, value in leaves(tomllib.loads(MARKED)):
        expected = value if isinstance(value, int) else int(re.search(r"\d+", str(value))[0])  # type: ignore[index]
        begins = {("text",): 4, ("more",): 8}.get(path, expected)
        assert lines[path] == begins, path
    assert (lines["rows", 0], lines["rows", 1], lines["rows", 1, "deep", 1], lines["rows", 1, "inner"]) == (20, 23, 29, 25)


KEYS = st.one_of(
    st.from_regex(r"[A-Za-z0-9_-]{1,4}", fullmatch=True), st.text(st.characters(codec="utf-8", categories=["L", "P", "S"]), max_size=4)
)
SCALARS = st.one_of(
    st.integers(-9, 9),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", categories=["L", "P", "S", "Zs"]), max_size=8),
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6)


def basic(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def written(value: object, breaks: bool) -> str:
    """A value as TOML; with `breaks`, arrays have one element a line and a comment behind each."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return basic(value) if "'" in value or not breaks else f"'{value}'"
    if isinstance(value, list):
        return "[" + "".join(written(v, breaks) + (", # ]}\n" if breaks else ",") for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{basic(k)} = {written(v, False)}" for k, v in value.items()) + "}"
    return repr(value)


@settings(max_examples=60)
@given(tables=st.lists(st.dictionaries(KEYS, VALUES, max_size=4), min_size=1, max_size=4), breaks=st.booleans())
def test_what_the_reader_reads_has_a_line(tables: list[dict[str, object]], breaks: bool) -> None:
    """For any text, every value of the document has a line, lines name nothing else, and a key's line holds the key."""
    text = "".join("[[t]]\n" + "".join(f"{basic(k)} = {written(v, breaks)}\n" for k, v in table.items()) for table in tables)
    document = tomllib.loads(text)
    found = lines_of(text)
    paths = {path[:length] for path, _ in leaves(document) for length in range(1, len(path) + 1)}
    assert set(found) == paths
    shown = text.split("\n")
    for path, line in found.items():
        if len(path) == 3:
            assert shown[line - 1].startswith(basic(str(path[2])) + " = ")


@pytest.mark.parametrize("path", sorted(Path("lab/worlds").glob("*.toml")), ids=lambda path: path.stem)
def test_the_worlds_lines_hold_what_they_name(path: Path) -> None:
    """In every built-in world the line of a link's ends is a line that names both ends."""
    text = path.read_text("utf-8")
    lines, shown = lines_of(text), text.splitlines()
    for number, link in enumerate(tomllib.loads(text)["links"]):
        line = shown[lines["links", number, "between"] - 1]
        assert all(f'"{end}"' in line for end in link["between"])
