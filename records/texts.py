"""Texts from elsewhere, made fit for a log line or a terminal."""

from __future__ import annotations

__all__ = ["one_line", "printable"]


def printable(text: str) -> str:
    """The text with what is not printable replaced by U+FFFD: line ends, escape sequences, marks that turn the writing around.

    >>> printable("sin\\x1b[2J\\n")
    'sin�[2J�'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def one_line(text: str) -> str:
    """The same with runs of blanks and line ends as one space.

    >>> one_line("not\\r\\n  found")
    'not found'
    """
    return printable(" ".join(text.split()))
