"""The functions of a page without running it: a page is a script that lays itself out when it is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import app


def page_functions(name: str) -> dict[str, Any]:
    """What a page's script defines, with its last call, `page()`, left out of the run."""
    path = Path(app.__file__).parent / "app_pages" / f"{name}.py"
    source = path.read_text("utf-8")
    assert source.rstrip().endswith("\npage()"), "a page ends in its own call"
    found: dict[str, Any] = {"__name__": f"page_{name}", "__file__": str(path)}
    exec(compile(source.rstrip().removesuffix("page()"), str(path), "exec"), found)  # noqa: S102  our own page
    return found
