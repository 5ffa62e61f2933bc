"""What one event of an OpenAI-compatible answer says: a token, the end, the counts, an error. Pure.

A chunk bears a token when any text the model produced is in it: content, reasoning, a refusal, the name or the
arguments of a tool call, or the `text` of the older completions API. A chunk with only a role, only a finish reason or
only counts bears none; to take a role-only first chunk for a token is the classic way to report a TTFT too low.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Chunk", "ChunkError", "error_text", "read_chunk"]

_TEXT_FIELDS = ("content", "reasoning_content", "reasoning", "refusal", "text")


class ChunkError(ValueError):
    """An event that is no chunk of an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One event of an answer.

    has_token    some text of the model is in it
    finished     a choice gave its finish reason
    prompt_tokens, completion_tokens   the server's own counts; None when this chunk has none
    error        the server's error message when this is one
    """

    has_token: bool = False
    finished: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str | None = None


def read_chunk(data: str) -> Chunk:
    """The meaning of one event's data, or of a whole JSON answer. Raises ChunkError when it is no JSON object."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise ChunkError(f"the server sent something that is not JSON: {data[:80]!r}") from None
    if not isinstance(body, dict):
        raise ChunkError(f"the server sent JSON that is no object: {data[:80]!r}")
    if body.get("error"):
        return Chunk(error=error_text(body))
    choices = [choice for choice in _items(body.get("choices")) if isinstance(choice, dict)]
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Chunk(
        has_token=any(_has_text(part) for choice in choices for part in (choice, choice.get("delta"), choice.get("message"))),
        finished=any(choice.get("finish_reason") is not None for choice in choices),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
    )


def error_text(body: object) -> str:
    """The message inside an error answer, in any of the shapes servers use; at most 200 characters on one line."""
    found: object = body
    for key in ("error", "message"):
        if isinstance(found, dict) and found.get(key):
            found = found[key]
    if isinstance(found, dict) and isinstance(found.get("detail"), str):
        found = found["detail"]
    text = found if isinstance(found, str) else json.dumps(found, default=str)
    return " ".join(text.split())[:200]


def _items(value: object) -> Iterator[object]:
    return iter(value) if isinstance(value, list) else iter(())


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63 else None


def _has_text(part: object) -> bool:
    """Whether a choice, delta or message holds text of the model."""
    if not isinstance(part, dict):
        return False
    for name in _TEXT_FIELDS:
        value = part.get(name)
        if isinstance(value, str) and value:
            return True
        if any(isinstance(piece, dict) and piece.get("text") for piece in _items(value)):
            return True
    calls = [call.get("function") for call in _items(part.get("tool_calls")) if isinstance(call, dict)]
    calls.append(part.get("function_call"))
    return any(isinstance(call, dict) and bool(call.get("name") or call.get("arguments")) for call in calls)
