"""Tokens for agents that one process makes all at once: those of the demonstration. Others enrol (docs/agent.md)."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

__all__ = ["new_tokens"]


def new_tokens(agent_sites: Mapping[str, str], path: Path) -> dict[str, str]:
    """Fresh tokens, each bound to its agent's site, written to `path` with mode 0600; returns agent id -> token."""
    tokens = {agent: secrets.token_urlsafe(24) for agent in agent_sites}
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({agent: {"token": token, "site": agent_sites[agent]} for agent, token in tokens.items()}, file)
    return tokens
