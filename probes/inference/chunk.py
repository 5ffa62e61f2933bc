"""What one event of an OpenAI-compatible answer says: a token, the end, the counts, an error. Pure.

A chunk bears a token when any text the model produced is in it: content, reasoning, a refusal, the name or the
arguments of a tool call, or the `text` of the older completions API. A chunk with only a role, only a finish reason or
only counts bears none; to take a role-only first chunk for a token is the classic way to report a TTFT too low.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["Chunk", "ChunkError", "Kind", "error_text", "hide", "read_chunk"]

#: What a token is part of: what is said, what is thought first, or a tool's name and arguments.
Kind = Literal["content", "reasoning", "tool_call"]

_TEXT_FIELDS: dict[str, Kind] = {
    "content": "content",
    "refusal": "content",
    "text": "content",
    "reasoning_content": "reasoning",
    "reasoning": "reasoning",
}
_THOUGHT = frozenset({"reasoning", "thinking"})
_KEPT_REASON = 60


class ChunkError(ValueError):
    """An event that is no chunk of an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One event of an answer.

    kinds        which kinds of text of the model are in it; none: it bears no token
    finish_reason   that a choice gave; None: it goes on
    decode_ns    how long making the tokens took, where the server says it (llama.cpp, Groq, Cerebras)
    prompt_tokens, completion_tokens   the server's own counts; None when this chunk has none
    error        the server's error message when this is one
    """

    kinds: frozenset[Kind] = frozenset()
    finish_reason: str | None = None
    decode_ns: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str | None = None

    @property
    def has_token(self) -> bool:
        """Some text of the model is in it."""
        return bool(self.kinds)


def read_chunk(data: str, secret: str | None = None) -> Chunk:
    """The meaning of one event's data, or of a whole JSON answer. Raises ChunkError when it is no JSON object.

    secret  stands in no text of the outcome
    """
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise ChunkError(f"the server sent something that is not JSON: {hide(data, secret)[:80]!r}") from None
    if not isinstance(body, dict):
        raise ChunkError(f"the server sent JSON that is no object: {hide(data, secret)[:80]!r}")
    if body.get("error"):
        return Chunk(error=error_text(body, secret))
    choices = [choice for choice in _items(body.get("choices")) if isinstance(choice, dict)]
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Chunk(
        kinds=frozenset(
            kind for choice in choices for part in (choice, choice.get("delta"), choice.get("message")) for kind in _kinds(part)
        ),
        finish_reason=next((str(reason)[:_KEPT_REASON] for choice in choices if (reason := choice.get("finish_reason")) is not None), None),
        decode_ns=_decode_ns(body),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
    )


def error_text(body: object, secret: str | None = None) -> str:
    """The message inside an error answer, in any of the shapes servers use; at most 200 characters on one line.

    secret  is left out of it, before it is cut: half of it would be one too many
    """
    found: object = body
    for key in ("error", "message"):
        if isinstance(found, dict) and found.get(key):
            found = found[key]
    if isinstance(found, dict) and isinstance(found.get("detail"), str):
        found = found["detail"]
    text = found if isinstance(found, str) else json.dumps(found, default=str)
    return hide(" ".join(text.split()), secret)[:200]


def hide(text: str, secret: str | None) -> str:
    """A server may repeat the key it refuses; a result must not."""
    return text.replace(secret, "[key]") if secret else text


def _items(value: object) -> Iterator[object]:
    return iter(value) if isinstance(value, list) else iter(())


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63 else None


#: Where servers say how long decoding took, and what one is in ns.
_DECODE_TIMES: tuple[tuple[tuple[str, ...], float], ...] = (
    (("timings", "predicted_ms"), 1e6),
    (("x_groq", "usage", "completion_time"), 1e9),
    (("time_info", "completion_time"), 1e9),
)


def _decode_ns(body: dict[str, object]) -> int | None:
    for path, unit_ns in _DECODE_TIMES:
        found: object = body
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found < 1e9:
            return int(found * unit_ns)
    return None


def _kinds(part: object) -> Iterator[Kind]:
    """The kinds of text that a choice, delta or message holds."""
    if not isinstance(part, dict):
        return
    for name, kind in _TEXT_FIELDS.items():
        value = part.get(name)
        if isinstance(value, str) and value:
            yield kind
        for piece in _items(value):
            if isinstance(piece, dict) and (piece.get("text") or piece.get("thinking")):
                yield "reasoning" if str(piece.get("type")) in _THOUGHT else kind
    calls = [call.get("function") for call in _items(part.get("tool_calls")) if isinstance(call, dict)]
    calls.append(part.get("function_call"))
    if any(isinstance(call, dict) and bool(call.get("name") or call.get("arguments")) for call in calls):
        yield "tool_call"
