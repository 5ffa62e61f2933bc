"""Where things stand in a TOML text: the line of every table, key and element, for messages that name it.

The standard library reads TOML but tells no positions. This walks the same text again and notes where each name and each
element of an array begins; values are not looked into further than is needed to pass over them. The text has to be
TOML already: what the reader refuses never gets here.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping

__all__ = ["Path", "lines_of"]

#: The way to a value: keys of tables, and numbers (from 0) of elements of arrays.
Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRING = re.compile(
    r"""
      "{3} (?: \\. | [^\\"] | "{1,2}(?!") )* "{3,5}   # up to two quotes may stand before the three that end it
    | '{3} .*? '{3,5}
    | " (?: \\. | [^\\"\n] )* "
    | ' [^'\n]* '
    """,
    re.DOTALL | re.VERBOSE,
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN_VALUE = re.compile(r"[^,\]}#\n]+")


class _NotUnderstood(Exception):
    """The text holds a form this does not know; then no lines are better than wrong ones."""


class _Walk:
    """One pass over a text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self._breaks = [match.start() for match in re.finditer("\n", text)]
        self._elements: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        while self._skip():
            begin = self.at
            if self._take("[["):
                array = self._resolve(self._dotted())
                self._expect("]]")
                self._note(array, begin)
                self._elements[array] = number = self._elements.get(array, -1) + 1
                table = (*array, number)
                self._note(table, begin)
            elif self._take("["):
                table = self._resolve(self._dotted())
                self._expect("]")
                self._note(table, begin)
            else:
                self._pair(table)

    def _resolve(self, keys: list[str]) -> Path:
        """The path a header means: each array of tables on the way stands for its latest element."""
        path: Path = ()
        for key in keys:
            if path in self._elements:
                path = (*path, self._elements[path])
            path = (*path, key)
        return path

    def _note(self, path: Path, begin: int) -> None:
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], bisect_right(self._breaks, begin) + 1)

    def _pair(self, table: Path) -> None:
        begin = self.at
        path = (*table, *self._dotted())
        self._note(path, begin)
        self._expect("=")
        self._skip()
        self._value(path)

    def _value(self, path: Path) -> None:
        if self._take("["):
            number = 0
            while not self._closes("]"):
                self._note((*path, number), self.at)
                self._value((*path, number))
                number += 1
                self._skip()
                self._take(",")
        elif self._take("{"):
            while not self._closes("}"):
                self._pair(path)
                self._skip()
                self._take(",")
        elif not self._match(_STRING) and not self._match(_PLAIN_VALUE):
            raise _NotUnderstood

    def _dotted(self) -> list[str]:
        keys = []
        while True:
            self._skip()
            if quoted := self._match(_STRING):
                keys.append(str(tomllib.loads(f"key = {quoted}")["key"]))
            elif bare := self._match(_BARE_KEY):
                keys.append(bare)
            else:
                raise _NotUnderstood
            self._skip()
            if not self._take("."):
                return keys

    def _skip(self) -> bool:
        """Pass over blanks, line ends and comments; whether anything is left."""
        self._match(_BLANK)
        return self.at < len(self.text)

    def _closes(self, bracket: str) -> bool:
        return not self._skip() or self._take(bracket)

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return found[0]

    def _take(self, token: str) -> bool:
        if not self.text.startswith(token, self.at):
            return False
        self.at += len(token)
        return True

    def _expect(self, token: str) -> None:
        self._skip()
        if not self._take(token):
            raise _NotUnderstood


def lines_of(text: str) -> Mapping[Path, int]:
    """Path -> line (from 1) of every table, key and array element of a TOML text; empty where the text is not understood.

    >>> lines_of('name = "x"\\n[[links]]\\nbetween = ["a", "b"]')[("links", 0, "between")]
    3
    """
    walk = _Walk(text)
    try:
        walk.document()
    except _NotUnderstood:
        return {}
    return walk.lines
