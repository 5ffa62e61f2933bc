"""A TOML table as a frozen dataclass: unknown keys, wrong types and missing keys are refused by name."""

from __future__ import annotations

import os
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from records.errors import ConfigError

__all__ = ["build", "refuse_unknown"]

R = TypeVar("R")

_NAMES: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text in quotes",
    bool: "true or false",
    Path: "a path in quotes",
    tuple: "a list of texts in quotes",
    dict: "a table such as { aws = 1.5 }",
}


def build(cls: type[R], table: Mapping[str, object], *, where: str, folder: Path) -> R:
    """An instance of the dataclass `cls` with the keys of `table`.

    where   names file and table in messages, as in ``agent.toml [limits]``
    folder  relative paths (keys ending in ``_file`` or ``_dir``) are taken from there

    Raises ConfigError; the class's own checks get `where` put in front.
    """
    hints = get_type_hints(cls)
    allowed = {field.name: field for field in fields(cls) if field.init}  # type: ignore[arg-type]
    refuse_unknown(table, allowed, where=where)
    values: dict[str, Any] = {}
    for name, field in allowed.items():
        if name in table:
            values[name] = _checked(table[name], hints[name], where=where, key=name, folder=folder)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"{where}: key {name!r} is missing; give {_describe(hints[name])}")
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def refuse_unknown(table: Mapping[str, object], allowed: Mapping[str, object], *, where: str) -> None:
    """Raise ConfigError for the first key of `table` that is not among `allowed`, with the nearest one or all of them."""
    for key in table:
        if key not in allowed:
            near = get_close_matches(key, list(allowed), n=1)
            hint = f"did you mean {near[0]!r}" if near else f"allowed are {', '.join(allowed)}"
            raise ConfigError(f"{where}: unknown key {key!r}; {hint}")


def _kinds(hint: object) -> tuple[type, ...]:
    """The types a value may have; of ``X | None`` just X, for TOML has no null."""
    if get_origin(hint) is tuple:
        return (tuple,)
    if get_origin(hint) in {Union, types.UnionType}:
        return tuple(get_origin(kind) or kind for kind in get_args(hint) if kind is not type(None))
    if get_origin(hint) is dict:  # the class checks what is in it
        return (dict,)
    if get_args(hint):  # Literal: the class checks the value
        return (type(get_args(hint)[0]),)
    assert isinstance(hint, type)
    return (hint,)


def _describe(hint: object) -> str:
    return " or ".join(_NAMES[kind] for kind in _kinds(hint))


def _checked(value: object, hint: object, *, where: str, key: str, folder: Path) -> object:
    for kind in _kinds(hint):
        if kind is tuple:
            if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
                return tuple(value)
            continue
        if kind is Path and isinstance(value, str) and value:
            return _path(value, where=where, key=key, folder=folder)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
            is_path = isinstance(value, str) and value and key.endswith("_file")
            return str(_path(str(value), where=where, key=key, folder=folder)) if is_path else value
    raise ConfigError(f"{where}: {key} is {value!r}; give {_describe(hint)}")


def _path(value: str, *, where: str, key: str, folder: Path) -> Path:
    try:
        path = folder / Path(value).expanduser()
        os.fsencode(path)
    except (RuntimeError, UnicodeEncodeError) as error:
        raise ConfigError(f"{where}: {key} is {value!r}, which is no path here: {error}") from None
    if "\0" in value:
        raise ConfigError(f"{where}: {key} is {value!r}; a path holds no NUL character")
    return path
