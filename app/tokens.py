"""The agents' tokens: a JSON file of agent id -> token, or -> the token and the only site it may measure from.

``{"sin": {"token": "...", "site": "sin"}, "fra": "..."}``, readable by its owner alone. Tokens never appear in
messages.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from records.errors import ConfigError

__all__ = ["Tokens", "new_tokens", "read_tokens"]

_LEAST_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Tokens:
    """Who may send: token -> agent id; and agent id -> the only site it may send from (agents not in it may use any)."""

    agents: Mapping[str, str] = field(default_factory=dict)
    sites: Mapping[str, str] = field(default_factory=dict)


def read_tokens(path: Path) -> Tokens:
    """Read a token file.

    Raises ConfigError when it cannot be read, is open to others or holds something else.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"token file {path} can be read by others; chmod 600 {path}")
        entries = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"token file {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"token file {path} is not JSON: {error}") from error
    if not isinstance(entries, dict):
        raise ConfigError(f"token file {path}: give an object of agent id and token")
    agents: dict[str, str] = {}
    sites: dict[str, str] = {}
    for agent, entry in entries.items():
        parts = {"token": entry} if isinstance(entry, str) else entry
        if not isinstance(parts, dict) or set(parts) - {"token", "site"} or not all(isinstance(part, str) for part in parts.values()):
            raise ConfigError(f"token file {path}: agent {agent!r}: give a token, or an object of token and site")
        token = parts.get("token", "")
        if len(token) < _LEAST_LENGTH:
            raise ConfigError(f"token file {path}: agent {agent!r}: a token has {_LEAST_LENGTH} characters or more")
        if token in agents:
            raise ConfigError(f"token file {path}: agents {agents[token]!r} and {agent!r} share a token")
        agents[token] = agent
        if "site" in parts:
            sites[agent] = parts["site"]
    return Tokens(agents, sites)


def new_tokens(agent_sites: Mapping[str, str], path: Path) -> dict[str, str]:
    """Fresh tokens, each bound to its agent's site, written to `path` with mode 0600; returns agent id -> token."""
    tokens = {agent: secrets.token_urlsafe(24) for agent in agent_sites}
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({agent: {"token": token, "site": agent_sites[agent]} for agent, token in tokens.items()}, file)
    return tokens
