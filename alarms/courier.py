"""Sends the notices that wait in the warehouse to their webhooks, to each one after the other, and notes what became of each.

A notice is tried until its webhook answers 2xx: again after 5 s, doubled each time up to 10 minutes, for `give_up_s`. What trying again
does not mend (4xx but 408 and 429) is given up at once. Redirects are not followed: nothing goes anywhere but to the configured URL.
A notice carries its id: a receiver that took one whose answer was lost sees the id again (at least once, and told apart).

Of an answer the status alone is taken, within `timeout_s` of the beginning: no webhook keeps the others waiting, and none fills our memory.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
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
#: While a webhook takes its time the warehouse is asked this often what else there is to send.
_LOOK_S = 1.0


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
        headers["Accept-Encoding"] = "identity"
        secret, token = webhook.secret(), webhook.token()
        if secret is not None:
            headers[SIGNATURE] = signature(secret, body, now)
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        verify = True if webhook.ca_file is None else ssl.create_default_context(cafile=str(webhook.ca_file))
        status = asyncio.run(_status(webhook, body, headers, verify))
    except ConfigError as error:
        return Answer(str(error))
    except (httpx.ProtocolError, httpx.InvalidURL, ValueError) as error:  # whose texts repeat what was sent, or what was answered
        is_theirs = isinstance(error, httpx.RemoteProtocolError)
        return Answer(
            "it answered nothing, or what is no HTTP"
            if is_theirs
            else f"the request cannot be made ({type(error).__name__}); look at its url"
        )
    except (httpx.HTTPError, OSError) as error:
        return Answer(f"{type(error).__name__}: {error}".replace(webhook.url, "its URL"))
    if status is None:
        return Answer(f"no answer within {webhook.timeout_s:g} s (timeout_s)")
    if httpx.codes.is_success(status):
        return Answer(None)
    said = f"it answered {status} {httpx.codes.get_reason_phrase(status)}".strip()
    return Answer(said, is_final=300 <= status < 500 and status not in _RETRIED)


async def _status(webhook: Webhook, body: bytes, headers: Mapping[str, str], verify: ssl.SSLContext | bool) -> int | None:
    """The status of its answer; None: there was none in time. One deadline for all of it: a library's own are for each read."""
    status = None
    try:
        async with (
            asyncio.timeout(webhook.timeout_s),
            httpx.AsyncClient(timeout=None, follow_redirects=False, verify=verify, trust_env=False) as client,  # noqa: S113 - the line above
            client.stream("POST", webhook.url, content=body, headers=headers) as answer,
        ):
            status = answer.status_code  # and nothing of the rest: the connection ends here, and no body is read, let alone unpacked
    except TimeoutError:
        pass  # a connection that did not end in time changes nothing about a status that came
    return status


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A notice on its way to its webhook."""

    row: dict[str, Any]
    webhook: Webhook
    at: datetime

    def send(self) -> Answer:
        """In a thread of its own. Raises nothing: what nobody thought of is one more attempt that failed."""
        try:
            return post(self.webhook, self.row["payload"].encode(), self.row["id"], self.at)
        except Exception as error:
            log.exception("a notice for the webhook %r made this program fall over", self.webhook.name)
            return Answer(f"it could not be sent: {type(error).__name__}")


def _is_due(row: Mapping[str, Any], now: datetime) -> bool:
    """No time between two attempts is longer than the last: what is later than that was set before the clock was set back."""
    return not now < row["next_at"] <= now + _LAST


class Courier:
    """The one who sends. outcomes: attempts by what came of them, since it began; waiting: notices that are not sent yet."""

    def __init__(
        self, warehouse: Warehouse, webhooks: Sequence[Webhook], *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._warehouse, self._clock = warehouse, clock
        self._webhooks: Mapping[str, Webhook] = {webhook.name: webhook for webhook in webhooks}
        self.outcomes: Counter[str] = Counter()
        self.waiting = 0

    def round(self, is_stopping: Callable[[], bool] = lambda: False) -> int:
        """Try everything that is due once, and note what came of it; how many still wait.

        One notice is on its way to each webhook at a time. While one takes long, what comes to be due for others meanwhile goes out.
        """
        blocked: dict[str, datetime] = {}
        under_way: dict[Future[Answer], _Attempt] = {}
        # Threads send; this one alone reads and writes the warehouse.
        with ThreadPoolExecutor(max(1, len(self._webhooks)), thread_name_prefix="alarms-webhook") as senders:
            while True:
                rows = self._waiting_rows()
                self.waiting = len(rows)
                if not is_stopping():
                    busy = {attempt.webhook.name for attempt in under_way.values()}
                    under_way |= {senders.submit(attempt.send): attempt for attempt in self._next(rows, busy, blocked)}
                if not under_way:
                    return self.waiting
                for sent in wait(under_way, timeout=_LOOK_S, return_when=FIRST_COMPLETED).done:
                    after = self._after(under_way.pop(sent), sent.result())
                    if after["sent_at"] is None and after["failed_at"] is None:
                        blocked[after["receiver"]] = after["next_at"]
                    self._put([after])

    def _waiting_rows(self) -> list[dict[str, Any]]:
        """What is still to be sent; what is due for a webhook that is not configured any more is given up."""
        rows, now = alarms.due_notices(self._warehouse), self._clock()
        lost = [row for row in rows if row["receiver"] not in self._webhooks and _is_due(row, now)]
        for row in lost:
            self.outcomes["unknown"] += 1
            log.warning("notice %s was for the webhook %r, which is not configured any more", row["id"], row["receiver"])
        self._put([row | {"failed_at": now, "error": "the webhook is not configured any more"} for row in lost])
        return [row for row in rows if row not in lost]

    def _next(self, rows: Sequence[dict[str, Any]], busy: Collection[str], blocked: Mapping[str, datetime]) -> list[_Attempt]:
        """What to send now: to each webhook that has nothing under way the first notice that is due."""
        now = self._clock()
        found: dict[str, _Attempt] = {}
        for row in rows:
            name = row["receiver"]
            # In order: what a webhook cannot take now keeps what comes after it back.
            if _is_due(row, now) and name in self._webhooks and name not in busy and blocked.get(name, now) <= now:
                found.setdefault(name, _Attempt(row, self._webhooks[name], now))
        return list(found.values())

    def _after(self, attempt: _Attempt, answer: Answer) -> dict[str, Any]:
        row, webhook = attempt.row, attempt.webhook
        attempts = row["attempt_count"] + 1
        if answer.error is None:
            self.outcomes["sent"] += 1
            return row | {"sent_at": self._clock(), "attempt_count": attempts, "error": None}
        is_over = answer.is_final or attempt.at - row["created_at"] >= timedelta(seconds=webhook.give_up_s)
        self.outcomes["given_up" if is_over else "retried"] += 1
        log.warning("webhook %r did not take notice %s%s: %s", webhook.name, row["id"], " for good" if is_over else "", answer.error)
        changed = {"attempt_count": attempts, "error": answer.error, "next_at": self._clock() + backoff(attempts)}
        return row | changed | ({"failed_at": attempt.at} if is_over else {})

    def _put(self, rows: Sequence[dict[str, Any]]) -> None:
        if rows:
            with alarms.changing(self._warehouse) as cursor:
                alarms.put_notices(cursor, rows)
