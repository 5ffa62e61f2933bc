"""What the tests of the importers share: the public files, and parsers run over a text or a file as the shell runs them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from warehouse.importers.formats import PARSERS
from warehouse.importers.found import Found, Given, Unfit
from warehouse.importers.stream import items

FORMATS = Path(__file__).parents[2].parent / "shared" / "data" / "formats"
AT_NS = 1_772_366_400_000_000_000  # 2026-03-01T12:00:00Z
GIVEN = Given(at_ns=AT_NS)


def public(*patterns: str) -> list[Path]:
    """The public files of the patterns; skips the test where there are none."""
    found = sorted(path for pattern in patterns for path in FORMATS.glob(pattern) if path.is_file())
    if not found:
        pytest.skip(f"no public files {patterns} in {FORMATS}")
    return found


def read(format_name: str, content: str | bytes | Path, given: Given = GIVEN) -> list[Found | Unfit]:
    """What the parser of a format finds in a text or a file."""
    raw = content.read_bytes() if isinstance(content, Path) else content.encode() if isinstance(content, str) else content
    return list(items(PARSERS[format_name], io.BytesIO(raw), given))


def one(format_name: str, content: str | bytes | Path, given: Given = GIVEN) -> Found:
    """The only measurement there, with nothing wrong."""
    (found,) = read(format_name, content, given)
    assert isinstance(found, Found), found
    return found


def fault(format_name: str, content: str | bytes | Path, given: Given = GIVEN) -> str:
    """The reason of the only thing there, which cannot be stored."""
    (found,) = read(format_name, content, given)
    assert isinstance(found, Unfit), found
    return found.reason
