"""Sends the notices that wait in the warehouse to their webhooks, one after the other, and notes what became of each.

A notice is tried until its webhook answers 2xx: again after 5 s, doubled each time up to 10 minutes, for `give_up_s`. What trying again
does not mend (4xx but 408 and 429) is given up at once. Redirects are not followed: nothing goes anywhere but to the configured URL.
A notice carries its id: a receiver that took one whose answer was lost sees the id again (at least once, and told apart).
"""

from __future__ import annotations

import logging
import ssl
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from alarms.notices import SIGNATURE, signature
from alarms.settings import Webhook
from records.errors import ConfigError
from warehouse import Warehouse, alarms

__all__ = ["Answer", "Courier", "backoff", "post"]

log = logging.getLogger("isochrone.alarms")

_FIRST, _LAST = timedelta(seconds=5), timedelta(minutes=10)
_RETRIED = {408, 429}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one attempt. error None: the webhook took it; is_final: trying again would not mend it."""

    error: str | None
    is_final: bool = False


def backoff(attempts: int) -> timedelta:
    """How long to wait after so many attempts that failed."""
    return min(_LAST, _FIRST * (1 << min(max(0, attempts - 1), 20)))


def post(webhook: Webhook, body: bytes, notice_id: str, now: datetime) -> Answer:
    """Send one notice. Never raises for what the network or the configuration do; no secret is in what it says."""
    try:
        headers = {"Content-Type": "application/json", "User-Agent": "isochrone-alarms/1", "Isochrone-Notice": notice_id}
        secret, token = webhook.secret(), webhook.token()
        if secret is not None:
            headers[SIGNATURE] = signature(secret, body, now)
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        verify = True if webhook.ca_file is None else ssl.create_default_context(cafile=str(webhook.ca_file))
        with httpx.Client(timeout=webhook.timeout_s, follow_redirects=False, verify=verify, trust_env=False) as client:
            answer = client.post(webhook.url, content=body, headers=headers)
    except ConfigError as error:
        return Answer(str(error))
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return Answer(f"{type(error).__name__}: {error}".replace(webhook.url, "its URL"))
    if answer.is_success:
        return Answer(None)
    status = answer.status_code
    said = f"it answered {status} {answer.reason_phrase}".strip()
    return Answer(said, is_final=300 <= status < 500 and status not in _RETRIED)


class Courier:
    """The one who sends. outcomes: attempts by what came of them, since it began."""

    def __init__(
        self, warehouse: Warehouse, webhooks: Sequence[Webhook], *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._warehouse, self._clock = warehouse, clock
        self._webhooks: Mapping[str, Webhook] = {webhook.name: webhook for webhook in webhooks}
        self.outcomes: Counter[str] = Counter()
        self.waiting = 0

    def round(self, is_stopping: Callable[[], bool] = lambda: False) -> int:
        """Try everything that is due once, and note what came of it; how many still wait."""
        rows = alarms.due_notices(self._warehouse)
        now = self._clock()
        # No time between two attempts is longer than the last: what is later than that was set before the clock was set back.
        due = [row for row in rows if not now < row["next_at"] <= now + _LAST]
        blocked: set[str] = set()
        for row in due:
            # In order: what a webhook cannot take now keeps what comes after it back.
            if is_stopping() or row["receiver"] in blocked:
                continue
            after = self._attempt(row)
            if after["sent_at"] is None and after["failed_at"] is None:
                blocked.add(row["receiver"])
            with alarms.changing(self._warehouse) as cursor:
                alarms.put_notices(cursor, [after])
            if after["sent_at"] is not None or after["failed_at"] is not None:
                rows.remove(row)
        self.waiting = len(rows)
        return self.waiting

    def _attempt(self, row: dict[str, Any]) -> dict[str, Any]:
        now = self._clock()
        webhook = self._webhooks.get(row["receiver"])
        if webhook is None:
            self.outcomes["unknown"] += 1
            log.warning("notice %s was for the webhook %r, which is not configured any more", row["id"], row["receiver"])
            return row | {"failed_at": now, "error": "the webhook is not configured any more"}
        answer = post(webhook, row["payload"].encode(), row["id"], now)
        attempts = row["attempt_count"] + 1
        if answer.error is None:
            self.outcomes["sent"] += 1
            return row | {"sent_at": self._clock(), "attempt_count": attempts, "error": None}
        is_over = answer.is_final or now - row["created_at"] >= timedelta(seconds=webhook.give_up_s)
        self.outcomes["given_up" if is_over else "retried"] += 1
        log.warning("webhook %r did not take notice %s%s: %s", webhook.name, row["id"], " for good" if is_over else "", answer.error)
        changed = {"attempt_count": attempts, "error": answer.error, "next_at": self._clock() + backoff(attempts)}
        return row | changed | ({"failed_at": now} if is_over else {})
