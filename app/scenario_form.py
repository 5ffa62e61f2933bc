"""A scenario built by hand: which fields an edit takes and of what kind, an edit in words, and a scenario as text for an address.

No Streamlit here: the What-if page draws the fields, and this says what they are.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app import text
from records.errors import UserError

__all__ = ["EDITS", "EditForm", "Field", "from_address", "rows_of", "sentence", "to_address", "with_values"]

Kind = Literal["site", "provider", "country", "number", "whole", "choice", "rules", "workload", "accelerator", "text"]

#: The longest scenario an address may carry, decoded: a link is not a place to unpack a bomb.
MOST_BYTES = 64_000


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an edit: its name in the file, its title with unit, its kind, what it starts with, and what it may be."""

    name: str
    title: str
    kind: Kind
    usual: Any = None
    choices: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True, slots=True)
class EditForm:
    """How an edit is asked for: its title in a list, and its fields."""

    title: str
    fields: tuple[Field, ...]


_SITE = Field("site", "Site", "site")
_ANY_SITE = Field("site", "Site (none: all)", "site", optional=True)

#: op -> its form; the names are those of the scenario file.
EDITS: dict[str, EditForm] = {
    "fail_site": EditForm("A site fails", (_SITE,)),
    "fail_provider": EditForm("A cloud provider fails", (Field("provider", "Provider", "provider"),)),
    "fail_region": EditForm("A country's sites fail", (Field("country", "Country (ISO code)", "country"),)),
    "fail_link": EditForm("A link is cut", (Field("src", "From", "site"), Field("dst", "To", "site"))),
    "degrade": EditForm(
        "A site's links get worse",
        (
            _SITE,
            Field("rtt_factor", "RTT times", "number", 1.0),
            Field("add_ms", "Added RTT (ms)", "number", 20.0),
            Field("loss_ratio", "Loss (0..1)", "number", 0.0),
        ),
    ),
    "burst": EditForm(
        "Demand bursts",
        (
            Field("factor", "Demand times", "number", 3.0),
            Field("start_s", "Begins after (s)", "number", 600.0),
            Field("rise_s", "Rises within (s)", "number", 300.0),
            Field("hold_s", "Holds (s)", "number", 1800.0),
            Field("fall_s", "Falls within (s)", "number", 300.0),
            _ANY_SITE,
        ),
    ),
    "set_demand": EditForm("Demand changes for good", (Field("factor", "Demand times", "number", 1.5), _ANY_SITE)),
    "set_price": EditForm(
        "A price changes",
        (
            Field("scope", "Price of", "choice", "device", ("device", "internet", "inter-region", "direct-connect")),
            Field("factor", "Times", "number", 1.5),
            Field("provider", "Provider (none: all)", "provider", optional=True),
        ),
    ),
    "set_residency": EditForm("Residency rules hold", (Field("rules", "Rules", "rules"),)),
    "set_mode": EditForm("Serve only at", (Field("mode", "Mode", "choice", "edge", ("edge", "cloud", "hybrid", "any")),)),
    "set_workload": EditForm("Another workload is asked", (Field("workload", "Workload", "workload"),)),
    "set_cache": EditForm("Prompt cache holds", (Field("hit_ratio", "Share of the prompt (0..1)", "number", 0.5),)),
    "resize": EditForm(
        "A pool is resized or made",
        (
            _SITE,
            Field("devices", "Devices", "whole", 8),
            Field("accelerator", "Accelerator (none: as it is)", "accelerator", optional=True),
        ),
    ),
    "add_site": EditForm(
        "A new site",
        (
            Field("site", "Id", "text", "new"),
            Field("lat", "Latitude", "number", 0.0),
            Field("lon", "Longitude", "number", 0.0),
            Field("accelerator", "Accelerator (none: no pool)", "accelerator", optional=True),
            Field("devices", "Devices", "whole", 4),
        ),
    ),
    "remove_site": EditForm("A site is given up", (_SITE,)),
}


def sentence(edit: Mapping[str, Any]) -> str:
    """An edit in words.

    >>> sentence({"op": "fail_site", "site": "sin"})
    'A site fails: sin'
    >>> sentence({"op": "burst", "factor": 3, "hold_s": 1800})
    'Demand bursts: 3 times, holds 30 min'
    """
    form = EDITS.get(str(edit.get("op")))
    title = form.title if form else str(edit.get("op"))
    named = [(field.name, edit[field.name]) for field in _fields(edit) if field.name in edit]  # an address has them by their names
    words = [_PHRASES.get(name, f"{name} {{}}").format(_said(name, value)) for name, value in named]
    return f"{title}: {', '.join(words)}" if words else title


#: How a field of an edit is said, by its name in the file; one that has no words is said by its name.
_PHRASES: dict[str, str] = {
    **dict.fromkeys(("site", "provider", "country", "mode", "workload", "rules", "scope", "accelerator", "group", "name"), "{}"),
    "factor": "{} times",
    "rps": "{} requests/s",
    "start_s": "begins after {}",
    "rise_s": "rises within {}",
    "hold_s": "holds {}",
    "fall_s": "falls within {}",
    "src": "from {}",
    "dst": "to {}",
    "to": "to {}",
    "share": "{} of it",
    "medium": "over {}",
    "rtt_factor": "RTT {} times",
    "add_ms": "RTT {} ms more",
    "loss_ratio": "loss {}",
    "throughput_factor": "throughput {} times",
    "lat": "latitude {}",
    "lon": "longitude {}",
    "radius_km": "within {} km",
    "devices": "{} devices",
    "usd": "{} USD",
    "usd_per_hour": "{} USD an hour",
    "hit_ratio": "{} of the prompt",
    "model": "model {}",
    "quantisation": "quantised as {}",
    "origin": "model pushed from {}",
    "model_gb": "model of {} GB",
    "pushes_per_month": "pushed {} times a month",
}
_SHARES = frozenset({"share", "loss_ratio", "hit_ratio"})


def _said(name: str, value: Any) -> str:
    """A value with the unit that its name has; whole minutes as such."""
    if name in _SHARES and _is_number(value):
        return text.percent(value)
    if name.endswith("_s") and _is_number(value):
        return text.age(value) if value >= 60 and value % 60 == 0 else f"{_words(value)} s"
    return _words(value)


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)


def _fields(edit: Mapping[str, Any]) -> list[Field]:
    """The fields of an edit: its form's, then what it holds that no form asks for (which stays as it is)."""
    form = EDITS.get(str(edit.get("op")))
    known = list(form.fields) if form else []
    names = {field.name for field in known}
    return known + [
        Field(name, name, "number" if _is_number(value) else "text") for name, value in edit.items() if name not in {"op", *names}
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def rows_of(edits: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The edits as a table: a row for each value, with the number of its change, both titles and the value as text ("" is not given).

    >>> [row["value"] for row in rows_of([{"op": "burst", "factor": 3.0}])]
    ['3', '', '', '', '', '']
    """
    rows = []
    for number, edit in enumerate(edits, start=1):
        form = EDITS.get(str(edit.get("op")))
        title = form.title if form else str(edit.get("op"))
        for field in _fields(edit):
            value = edit.get(field.name)
            rows.append({"number": number, "change": title, "field": field.title, "value": "" if value is None else _words(value)})
    return rows


def with_values(edits: Sequence[Mapping[str, Any]], values: Sequence[str | None]) -> list[dict[str, Any]]:
    """The edits with the values of a table that `rows_of` made, row by row; a value that was not touched stays as it was, "" takes it out.

    Raises UserError for a word that is no value of its field; whether the scenario holds together is for its parser to say.
    """
    changed, left = [], iter(values)
    for number, edit in enumerate(edits, start=1):
        new = dict(edit)
        for field in _fields(edit):
            word, old = (next(left) or "").strip(), edit.get(field.name)
            if word == ("" if old is None else _words(old)):
                continue
            if word:
                new[field.name] = _value(field, word, number, old)
            else:
                new.pop(field.name, None)
        changed.append(new)
    return changed


def _value(field: Field, word: str, number: int, old: Any) -> Any:
    if field.kind == "rules" or isinstance(old, list):
        return [part.strip() for part in word.split(",") if part.strip()]
    if field.kind not in ("number", "whole"):
        return word
    try:
        return int(word) if field.kind == "whole" else float(word)
    except ValueError:
        kind = "a whole number" if field.kind == "whole" else "a number"
        raise UserError(f"change {number}: {field.title} is {word!r}; give {kind}") from None


def to_address(document: Mapping[str, Any]) -> str:
    """A scenario as one word for an address: its JSON, deflated, in URL-safe base 64."""
    said = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(zlib.compress(said, 9)).decode().rstrip("=")


def from_address(word: str) -> dict[str, Any]:
    """The scenario of an address. Raises UserError for what is none.

    >>> from_address(to_address({"name": "n", "edits": []}))
    {'edits': [], 'name': 'n'}
    """
    try:
        packed = base64.urlsafe_b64decode(word + "=" * (-len(word) % 4))
        unpack = zlib.decompressobj()
        said = unpack.decompress(packed, MOST_BYTES)
        if unpack.unconsumed_tail or not unpack.eof:
            raise UserError(f"the scenario in this address is cut short or longer than {MOST_BYTES:,} bytes; open it from a file")
        document = json.loads(said)
    except (binascii.Error, ValueError, zlib.error, RecursionError) as error:
        raise UserError("the scenario in this address cannot be read; copy the whole link, or open the scenario from a file") from error
    if not isinstance(document, dict):
        raise UserError("what this address holds is no scenario; copy the whole link, or open the scenario from a file")
    return document
