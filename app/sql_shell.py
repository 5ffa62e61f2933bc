"""The shell of `isochrone sql`: questions one after the other, with completion of what the warehouse has, and a history.

prompt_toolkit edits the line. A statement ends with a semicolon, or with an empty line; commands begin with a dot.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.commands.sql import show
from app.output import note, table
from app.sql_examples import SQL_EXAMPLES
from records.errors import IsochroneError, ToolMissing

if TYPE_CHECKING:
    from warehouse import Warehouse

__all__ = ["complete", "is_whole", "shell", "words_of"]

_HELP = """.tables    tables and views
.schema T  columns of T with their meaning
.examples  questions to start from; .example N runs the N-th
.quit      leave (so does Ctrl-D)
A statement ends with ; or with an empty line."""
# fmt: off
_KEYWORDS = (
    "SELECT", "FROM", "WHERE", "GROUP", "ORDER", "BY", "LIMIT", "HAVING", "WITH", "AS", "JOIN", "LEFT", "USING", "ON", "AND",
    "OR", "NOT", "NULL", "IS", "IN", "BETWEEN", "CASE", "WHEN", "THEN", "ELSE", "END", "DISTINCT", "COUNT", "FILTER", "OVER",
    "PARTITION", "QUALIFY", "UNION", "ALL", "DESC", "ASC", "NULLS", "LAST", "FIRST", "INTERVAL", "DESCRIBE", "SUMMARIZE", "SHOW",
    "TABLES", "EXPLAIN", "ANALYZE", "EXCLUDE", "UNNEST", "PIVOT", "SAMPLE", "AT", "VERSION",
)
# fmt: on


def words_of(wh: Warehouse) -> dict[str, str]:
    """Everything completion offers -> what it is: tables and views first, then columns, then keywords."""
    from warehouse.workbench import schema

    docs = schema(wh)
    words = {doc.name: doc.kind for doc in docs}
    for doc in docs:
        for column in doc.columns:
            words.setdefault(column.name, f"column, {column.type.lower()}")
    return words | dict.fromkeys(_KEYWORDS, "keyword")


def complete(words: dict[str, str], text: str) -> list[tuple[str, str]]:
    """(word, what it is) of the words that begin as the last one of the text does, in any case."""
    last = ""
    for character in reversed(text):
        if not (character.isalnum() or character == "_"):
            break
        last = character + last
    if not last:
        return []
    return [(word, kind) for word, kind in words.items() if word.lower().startswith(last.lower()) and word != last]


def is_whole(text: str) -> bool:
    """Whether what has been typed is to be run: a command, or a statement that has ended."""
    stripped = text.strip()
    return not stripped or stripped.startswith(".") or stripped.endswith(";") or text.endswith("\n")


def _history() -> Path:
    folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "isochrone"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "sql_history"


def _session(words: dict[str, str]) -> Any:
    try:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import Completer, Completion
        from prompt_toolkit.history import FileHistory, InMemoryHistory
        from prompt_toolkit.key_binding import KeyBindings
    except ImportError as error:
        raise ToolMissing(
            "the shell needs the package prompt_toolkit: pip install 'isochrone[shell]'; or give the query: isochrone sql \"FROM links\""
        ) from error

    class _Words(Completer):
        def get_completions(self, document: Any, complete_event: Any) -> Iterable[Completion]:
            before = document.text_before_cursor
            for word, kind in complete(words, before):
                typed = len(before) - len(before.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"))
                yield Completion(word, start_position=-typed, display_meta=kind)

    keys = KeyBindings()

    @keys.add("enter")
    def _enter(event: Any) -> None:
        buffer = event.current_buffer
        if is_whole(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    try:
        history: Any = FileHistory(str(_history()))
    except OSError:
        history = InMemoryHistory()
    return PromptSession(
        "isochrone> ", completer=_Words(), history=history, multiline=True, key_bindings=keys, prompt_continuation="        -> "
    )


def shell(wh: Warehouse, *, row_limit: int, timeout_s: float, memory_mb: int) -> None:
    """Ask until the user leaves. Raises ToolMissing where prompt_toolkit is not installed."""
    from warehouse.workbench import bounded_process, run

    session = _session(words_of(wh))
    note(f"{wh.address}: reading only; .help says what there is")
    while True:
        try:
            text = session.prompt().strip().removesuffix(";").strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        if text in (".quit", ".exit"):
            return
        try:
            query = _command(wh, text) if text.startswith(".") else text
            if query:
                with bounded_process(memory_mb):
                    result = run(wh, query, row_limit=row_limit, timeout_s=timeout_s, memory_mb=memory_mb)
                show(result, "table", None, row_limit)
        except KeyboardInterrupt:  # ends the question, and not the shell
            note("stopped")
        except IsochroneError as error:
            note(f"error: {error}")


def _command(wh: Warehouse, text: str) -> str | None:
    """Do what a command says; the query of an example is given back to be run."""
    from warehouse.workbench import schema

    name, _, argument = text.partition(" ")
    if name == ".tables":
        table(["name", "kind", "what it is"], [[doc.name, doc.kind, doc.comment] for doc in schema(wh)])
    elif name == ".schema" and argument:
        columns = [column for doc in schema(wh) if doc.name == argument.strip() for column in doc.columns]
        table(["column", "type", "meaning"], [[column.name, column.type, column.comment] for column in columns])
    elif name == ".examples":
        for number, example in enumerate(SQL_EXAMPLES, 1):
            click.echo(f"{number:3}  {example}")
    elif name == ".example" and argument.strip().isdigit() and 1 <= int(argument) <= len(SQL_EXAMPLES):
        query = list(SQL_EXAMPLES.values())[int(argument) - 1]
        click.echo(query)
        return query
    else:
        click.echo(_HELP)
    return None
