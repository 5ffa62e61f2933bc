"""A topology as a TOML text that a person can read and change: one line for each site, router and link."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from lab.topology import Topology

__all__ = ["toml_text"]


def toml_text(topology: Topology, comment: Iterable[str] = ()) -> str:
    """The text of a topology, under lines of comment; `lab.reading.parse_text` reads it back the same."""
    document = topology.document()
    lines = [f"# {line}".rstrip() for line in comment]
    lines += ["", *(f"{key} = {_value(document[key])}" for key in ("name", "title", "seed"))]
    for key in ("sites", "routers", "links", "events", "congestion"):
        rows = document.get(key)
        if isinstance(rows, list) and rows:
            lines += ["", f"{key} = [", *(f"    {_value(_short(row))}," for row in rows), "]"]
    return "\n".join(lines).lstrip("\n") + "\n"


def _short(row: Mapping[str, object]) -> dict[str, object]:
    """A row without what goes without saying: pairs of one value, and a link's zeros."""
    short: dict[str, object] = {}
    for key, value in row.items():
        same = isinstance(value, list) and len(value) == 2 and key in _PAIRS and value[0] == value[1]
        short[key] = value[0] if same and isinstance(value, list) else value
    return {key: value for key, value in short.items() if not (key in ("jitter_ms", "loss") and value == 0)}


_PAIRS = ("delay_ms", "jitter_ms", "loss", "rate", "queue_ms", "mtu", "metric")


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{int(value)}" if value == int(value) and abs(value) < 1e15 else repr(value)
    if isinstance(value, str):
        # A JSON string is a TOML string, but for the one control character that JSON leaves alone.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    return str(value)
