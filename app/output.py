"""How the command line speaks: one JSON document or one aligned table on standard output, progress on standard error."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import click

from records.errors import UserError
from records.texts import printable

__all__ = ["DEFAULT_WAREHOUSE", "emit_json", "form_of", "json_option", "json_text", "note", "progress", "table", "warehouse_option"]

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_WAREHOUSE = "./isochrone-data"


def json_option(function: F) -> F:
    """The option ``--json``: one JSON document on standard output."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")(function)


def form_of(form: str, as_json: bool, *, name: str = "form") -> str:
    """What to print where a command has --format (its parameter is `name`) and --json, which is short for --format json.

    Raises UserError where the two say different things.
    """
    if not as_json:
        return form
    said = click.get_current_context().get_parameter_source(name)
    if form != "json" and said is not click.core.ParameterSource.DEFAULT:
        raise UserError(f"--json and --format {form} are two forms of one answer; give one of them")
    return "json"


def warehouse_option(function: F) -> F:
    """The option ``--warehouse`` of every command that reads or writes measurements."""
    return click.option(
        "--warehouse",
        envvar="ISOCHRONE_WAREHOUSE",
        default=DEFAULT_WAREHOUSE,
        show_default=True,
        metavar="FOLDER|ADDRESS",
        help="Where the measurements are kept: a folder, or a DuckLake address. [env: ISOCHRONE_WAREHOUSE]",
    )(function)


def emit_json(document: object) -> None:
    """Print one JSON document; a number that JSON cannot carry is a fault of ours and raises ValueError."""
    click.echo(json_text(document), nl=False)


def json_text(document: object) -> str:
    """One JSON document as `emit_json` prints it, with the line's end."""
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False, default=_plain) + "\n"


def _plain(value: object) -> object:
    for method in ("isoformat", "tolist"):
        if hasattr(value, method):
            return getattr(value, method)()
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def note(message: str) -> None:
    """Progress and remarks, on standard error, so that standard output stays one document."""
    click.echo(message, err=True)


@contextlib.contextmanager
def progress(title: str, length: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error for what takes a while; nothing where that is no terminal. Yields what is told how many more are done."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    with click.progressbar(length=length, label=title, file=sys.stderr) as bar:
        yield bar.update


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under headers, numbers to the right; None is shown as '-', which is not zero."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max([len(header), *(len(row[i]) for row in cells)]) for i, header in enumerate(headers)]
    right = [all(isinstance(row[i], int | float) or row[i] is None for row in rows) and bool(rows) for i in range(len(headers))]
    for line in [list(headers), *cells]:
        click.echo("  ".join(t.rjust(w) if r else t.ljust(w) for t, w, r in zip(line, widths, right, strict=True)).rstrip())


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "-"
        return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"
    return printable(str(value))
