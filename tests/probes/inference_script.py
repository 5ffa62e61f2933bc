"""Golden parts of OpenAI-compatible answers, as a scripted server sends them."""

from __future__ import annotations

import json

ROLE = {"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None, "index": 0}]}
STOP = {"choices": [{"delta": {}, "finish_reason": "stop", "index": 0}]}
USAGE = {"choices": [], "usage": {"prompt_tokens": 35, "completion_tokens": 2, "total_tokens": 37}}
DONE = b"data: [DONE]\n\n"


def token(text: str, field: str = "content") -> dict[str, object]:
    """A chunk with one token."""
    return {"choices": [{"delta": {field: text}, "finish_reason": None, "index": 0}]}


def event(body: dict[str, object]) -> bytes:
    """As a server-sent event; characters stay UTF-8."""
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"
