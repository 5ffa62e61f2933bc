"""The live screen of a one-shot measurement: tables redrawn in place on a terminal, in colours unless NO_COLOR forbids them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.sheet import Sheet, style_of, text_of

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

__all__ = ["Screen", "is_terminal"]


def is_terminal() -> bool:
    """Whether standard output is a terminal that can redraw."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Screen:
    """Shows sheets where the cursor is and redraws them there; `close` leaves the last ones standing.

    While it is open, more lines than the terminal has are cut off at its end; what `close` leaves is whole.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console: Console = Console(highlight=False, soft_wrap=False)
        self._live: Live = Live(console=self._console, auto_refresh=False, transient=True, vertical_overflow="ellipsis")
        self._live.start()

    def show(self, sheets: Sequence[Sheet]) -> None:
        """Redraw."""
        self._live.update(self._drawn(sheets), refresh=True)

    def close(self, sheets: Sequence[Sheet]) -> None:
        """Take the live tables away and print these, which stay."""
        self._live.stop()
        if sheets:
            self._console.print(self._drawn(sheets))

    def _drawn(self, sheets: Sequence[Sheet]) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        parts: list[RenderableType] = []
        for number, sheet in enumerate(sheets):
            if number:
                parts.append(Text())
            if sheet.title:
                parts.append(Text(sheet.title, style="bold", overflow="ellipsis", no_wrap=True))
            if sheet.rows:
                table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
                kept = sheet.fitting(self._console.width)
                for i in kept:
                    column = sheet.columns[i]
                    # The names give way where even the most important columns find no room, never the numbers.
                    table.add_column(
                        column.name, justify="right" if column.is_number else "left", no_wrap=True, overflow="ellipsis", ratio=None
                    )
                for row in sheet.rows:
                    table.add_row(*(Text(text_of(row[i]), style=style_of(row[i])) for i in kept))
                parts.append(table)
            parts += [Text(note, style="dim") for note in sheet.notes]
        return Group(*parts)
