"""A table for a terminal: what its cells say and mean, which columns go first where it is narrow. No I/O besides `echo`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import click

__all__ = ["BAD", "DIM", "GOOD", "WARN", "Cell", "Column", "Sheet", "echo"]

#: What a cell means; a terminal shows it as a colour, a file not at all.
GOOD, WARN, BAD, DIM = "green", "yellow", "red", "dim"

#: Text, or text and what it means. None is unknown: "-", which is not zero.
Cell = str | tuple[str, str] | None
_GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `rank`: where there is no room for all, columns of the highest rank go first; rank 0 always stays."""

    name: str
    rank: int = 0
    is_number: bool = True


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table with a line above and lines below."""

    columns: tuple[Column, ...]
    rows: list[list[Cell]]
    title: str = ""
    notes: list[str] = field(default_factory=list)

    def fitting(self, width: int) -> list[int]:
        """The columns that fit, by index: the most important ones, in their order. Rank 0 stays even where it does not fit."""
        kept = list(range(len(self.columns)))
        widths = [max([len(column.name), *(len(text_of(row[i])) for row in self.rows)]) for i, column in enumerate(self.columns)]
        while sum(widths[i] + _GAP for i in kept) - _GAP > width:
            worst = max(kept, key=lambda i: (self.columns[i].rank, i))
            if self.columns[worst].rank == 0:
                break
            kept.remove(worst)
        return kept


def text_of(cell: Cell) -> str:
    """What a cell says."""
    return "-" if cell is None else cell if isinstance(cell, str) else cell[0]


def style_of(cell: Cell) -> str:
    """What a cell means; empty for nothing in particular."""
    return cell[1] if isinstance(cell, tuple) else DIM if cell is None else ""


def echo(sheets: Sequence[Sheet]) -> None:
    """Print them as plain lines, every column, for files and pipes."""
    for sheet in sheets:
        if sheet.title:
            click.echo(sheet.title)
        if sheet.rows:
            cells = [[column.name for column in sheet.columns], *([text_of(cell) for cell in row] for row in sheet.rows)]
            widths = [max(len(row[i]) for row in cells) for i in range(len(sheet.columns))]
            for row in cells:
                words = (
                    text.rjust(width) if column.is_number else text.ljust(width)
                    for text, width, column in zip(row, widths, sheet.columns, strict=True)
                )
                click.echo((" " * _GAP).join(words).rstrip())
        for note in sheet.notes:
            click.echo(f"  {note}")
