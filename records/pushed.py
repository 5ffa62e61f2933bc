"""A configuration that is pushed to agents: what is signed, and how it travels. No keys and no signing here, only the form.

::

    {"algorithm": "ed25519", "payload": "<text>", "signature": "<base64>"}

The payload is JSON itself, and what is signed are its bytes after `CONTEXT`: no other text that the same key may once have signed
can pass for one. `generation` grows with every configuration, whomever it is for: the newest that names an agent is the one for it.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from records.errors import ConfigError

__all__ = ["CONTEXT", "MAX_GENERATION", "MAX_PUSHED_BYTES", "Pushed", "Signed"]

CONTEXT = b"isochrone agent configuration 1\n"
MAX_PUSHED_BYTES = 1 << 20
MAX_GENERATION = 10**15

_KEYS = {"generation", "made_at", "agent", "site", "toml"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """A configuration for one agent, for those of a site, or (both None) for all.

    made_at  when it was signed, UTC
    toml     tables of an agent's file; the agent says which it takes (probes/pushed.py)
    """

    generation: int
    made_at: datetime
    agent: str | None
    site: str | None
    toml: str

    def is_for(self, agent: str, site: str | None) -> bool:
        """Whether it names this agent."""
        return self.agent in {None, agent} and self.site in {None, site}

    @property
    def audience(self) -> str:
        """Whom it is for, in words.

        >>> Pushed(generation=1, made_at=datetime(2026, 11, 26, tzinfo=UTC), agent=None, site="sin", toml="").audience
        'site sin'
        """
        return f"agent {self.agent}" if self.agent is not None else f"site {self.site}" if self.site is not None else "all"

    def payload(self) -> bytes:
        """As it is signed."""
        values = {
            "generation": self.generation,
            "made_at": self.made_at.isoformat(),
            "agent": self.agent,
            "site": self.site,
            "toml": self.toml,
        }
        return json.dumps(values).encode()

    @staticmethod
    def of(payload: bytes) -> Pushed:
        """From what was signed. Raises ConfigError."""
        values = _object(payload, "the payload")
        generation, made_at, agent, site, toml = (values.get(key) for key in ("generation", "made_at", "agent", "site", "toml"))
        if set(values) - _KEYS:
            raise ConfigError("the payload has keys that this version does not know; upgrade it")
        if isinstance(generation, bool) or not isinstance(generation, int) or not 1 <= generation <= MAX_GENERATION:
            raise ConfigError(f"generation must be a whole number from 1 to {MAX_GENERATION}")
        if not isinstance(toml, str) or not isinstance(made_at, str):
            raise ConfigError("the payload lacks toml or made_at")
        for name in (agent, site):
            if name is not None and not isinstance(name, str):
                raise ConfigError("agent and site must be texts or null")
        try:
            at = datetime.fromisoformat(made_at)
        except ValueError:
            raise ConfigError("made_at is no time") from None
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        assert agent is None or isinstance(agent, str)
        assert site is None or isinstance(site, str)
        return Pushed(generation=generation, made_at=at, agent=agent, site=site, toml=toml)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A payload with its signature, not yet verified."""

    payload: bytes
    signature: bytes

    def message(self) -> bytes:
        """What the signature is of."""
        return CONTEXT + self.payload

    def encode(self) -> bytes:
        """As it travels and is kept."""
        signature = base64.b64encode(self.signature).decode()
        return json.dumps({"algorithm": "ed25519", "payload": self.payload.decode(), "signature": signature}).encode() + b"\n"

    @staticmethod
    def of(document: bytes) -> Signed:
        """From what came. Raises ConfigError."""
        values = _object(document, "the signed configuration")
        payload, signature = values.get("payload"), values.get("signature")
        if values.get("algorithm") != "ed25519" or not isinstance(payload, str) or not isinstance(signature, str):
            raise ConfigError("this is no signed configuration: algorithm ed25519, payload and signature are needed")
        try:
            return Signed(payload=payload.encode(), signature=base64.b64decode(signature, validate=True))
        except (binascii.Error, ValueError):
            raise ConfigError("the signed configuration is damaged: its signature is no base64, or its payload no text") from None


def _object(text: bytes, what: str) -> dict[str, object]:
    if len(text) > 2 * MAX_PUSHED_BYTES:
        raise ConfigError(f"{what} is larger than {2 * MAX_PUSHED_BYTES} bytes")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ConfigError(f"{what} is no JSON object")
    return values
