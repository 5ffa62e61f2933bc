"""How an agent comes by its secret, and by the next one. Each step can be cut off and done again: nobody is locked out.

The agent makes its secret itself, keeps it (probes/secret.py) and tells the collector its SHA-256 digest.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from probes.client import Answer, CollectorClient
from probes.pushed import key_text, pin
from probes.secret import SecretFile, digest
from records.errors import CollectorUnreachable, NoAnswer, OutsideError, UserError

__all__ = ["ENROLL", "IDENTITY", "ROTATE", "enroll", "rotate"]

ENROLL = "/api/v1/enroll"
ROTATE = "/api/v1/rotate"
IDENTITY = "/api/v1/identity"


async def enroll(
    client: CollectorClient,
    secret_file: SecretFile,
    *,
    agent: str,
    site: str,
    invitation: str,
    key_file: Path | None = None,
    key: str | None = None,
) -> str | None:
    """Use an invitation: afterwards `secret_file` holds a secret that the collector takes from this agent.

    With the same invitation it can be tried again after whatever cut it off. What the file held before stays until then.

    key_file  where the key of pushed configurations is pinned: `key` when it is known here, else what the collector says

    Gives back the key that was pinned, if any. Raises UserError when the collector's key is another one, NoAnswer when the collector
    refuses, CollectorUnreachable, OutsideError when the secret cannot be written.
    """
    with secret_file.held() as is_alone:
        _require(secret_file, is_alone=is_alone)
        is_again = secret_file.next() is not None
        secret = secret_file.prepare()
        answer = await client.call("GET", IDENTITY, secret=secret) if is_again else None
        if answer is None or answer.status != 200 or answer.body.get("agent") != agent:  # not cut off after the collector knew
            body = {"invitation": invitation, "agent": agent, "site": site, "secret_sha256": digest(secret)}
            answer = await client.call("POST", ENROLL, body)
            if answer.status != 200:
                if not is_again and answer.status in {400, 403, 404, 409}:
                    secret_file.drop_next()
                _refuse(client, answer, "enrol this agent")
        pinned = _pinned(answer.body.get("config_key"), key)
        if pinned is not None and key_file is not None:
            pin(key_file, pinned)
        secret_file.promote(secret)
    return pinned


def _pinned(theirs: object, mine: str | None) -> str | None:
    """The key to pin: one that is known here must be the collector's too, if that has one."""
    said = key_text(theirs) if isinstance(theirs, str) else None
    if mine is None:
        return said
    if said is not None and said != key_text(mine):
        raise UserError("the collector names another key of pushed configurations than the one given; one of them is wrong")
    return key_text(mine)


async def rotate(client: CollectorClient, secret_file: SecretFile, *, grace_s: float) -> None:
    """Replace the secret: the next one is written, made known under the old one, used once, and put in the old one's place.

    grace_s  so long both are valid at most, where the next one is not used; afterwards the old one alone

    Raises as `enroll`, and ConfigError when there is no secret yet.
    """
    with secret_file.held() as is_alone:
        _require(secret_file, is_alone=is_alone)
        if secret_file.next() is None:
            secret_file.read()
        secret = secret_file.prepare()
        answer = await client.call_own("POST", ROTATE, {"secret_sha256": digest(secret), "grace_s": grace_s})
        if answer.status != 200:
            _refuse(client, answer, "rotate the secret")
        answer = await client.call("GET", IDENTITY, secret=secret)
        if answer.status != 200:
            _refuse(client, answer, "take the next secret")
        secret_file.promote(secret)


def _require(secret_file: SecretFile, *, is_alone: bool) -> None:
    if not is_alone:
        raise OutsideError(f"another process is changing the secret in {secret_file.path}; try again when it has ended")


def _refuse(client: CollectorClient, answer: Answer, what: str) -> NoReturn:
    said = f"the collector at {client.url} did not {what}: it answered {answer.status}" + (f": {answer.text}" if answer.text else "")
    if answer.status == 400:
        raise UserError(said)
    if answer.status >= 500 or answer.status in {408, 429}:
        raise CollectorUnreachable(said)
    raise NoAnswer(said)
