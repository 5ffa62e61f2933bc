"""The uplink: sealed batches to the collector, oldest first, for days without it if need be.

What an answer means (the collector's side of it is in the contract):

====================  ================================================================================================
200                   stored, or was already: the segment is deleted
400                   the collector keeps it among its rejects with the reason: deleted here, counted, logged
401, 403              the token or the site is wrong: kept, tried again slowly; only a person can mend it
409, 413, 415         this batch will never be taken as it is: put into quarantine, logged, and on with the next one
429                   busy: tried again after Retry-After
anything else         kept and tried again with exponential back-off and jitter, at most a minute apart
====================  ================================================================================================
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from probes.segment import Segment
from probes.spool import Spool
from records.batch import HEADER_AGENT, HEADER_BOOT, HEADER_SEQUENCE, BatchName
from records.errors import CollectorUnreachable, ConfigError

__all__ = ["Answer", "Backoff", "CollectorClient", "Uplink", "Verdict", "check_collector_url", "judge"]

log = logging.getLogger("isochrone.uplink")

_BATCHES = "/api/v1/batches"
_MAX_BACKOFF_S = 60.0
_MAX_RETRY_AFTER_S = 600.0
_REFUSED_AGAIN_S = 60.0


class Verdict(Enum):
    """What becomes of a batch after an answer."""

    STORED = "stored"
    REJECTED = "rejected"
    QUARANTINED = "quarantined"
    REFUSED = "refused"
    BUSY = "busy"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A collector's answer: HTTP status, the pause it asks for, what it says, and how many lines of the batch it rejected."""

    status: int
    retry_after_s: float | None
    text: str
    rejected_lines: int = 0


def judge(status: int) -> Verdict:
    """The verdict for an HTTP status.

    >>> judge(200).value, judge(409).value, judge(503).value
    ('stored', 'quarantined', 'failed')
    """
    if status == 200:
        return Verdict.STORED
    if status == 400:
        return Verdict.REJECTED
    if status in {401, 403}:
        return Verdict.REFUSED
    if status in {409, 413, 415}:
        return Verdict.QUARANTINED
    return Verdict.BUSY if status == 429 else Verdict.FAILED


class Backoff:
    """Pauses between tries: doubling from one second to a minute, each cut by up to a half at random.

    The generator comes in from outside, so that a fleet is spread and a test is repeatable.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._failures = 0

    def next_s(self) -> float:
        """The pause after one more failure."""
        full = min(_MAX_BACKOFF_S, 2.0 ** min(self._failures, 10))
        self._failures += 1
        return full * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It works again."""
        self._failures = 0


def check_collector_url(url: str) -> tuple[str, str | None]:
    """(base URL, path of the unix socket or None) of a collector address.

    Accepts ``http://host:port``, ``https://host:port`` and ``http+unix:///path/to.sock``; raises ConfigError otherwise.
    """
    parts = urlsplit(url)
    if parts.scheme == "http+unix" and parts.path.startswith("/") and not parts.netloc:
        return "http://collector", parts.path
    if parts.scheme in {"http", "https"} and parts.hostname and parts.username is None and not parts.query:
        return url.rstrip("/"), None
    shown = url if parts.username is None else f"{parts.scheme}://…@{parts.hostname}"
    raise ConfigError(
        f"collector address {shown!r} is not one of http://HOST:PORT, https://HOST:PORT, http+unix:///PATH/TO.sock; "
        "a token goes into a file of its own"
    )


class CollectorClient:
    """HTTP to one collector; the token is read at every request, so that it can be replaced under a running agent."""

    def __init__(self, url: str, *, token_file: Path | None = None, timeout_s: float = 30.0) -> None:
        self.url = url
        self._token_file = token_file
        base, socket_path = check_collector_url(url)
        transport = httpx.AsyncHTTPTransport(uds=socket_path) if socket_path else None
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 10.0))
        self._http = httpx.AsyncClient(base_url=base, transport=transport, timeout=timeout, follow_redirects=False)

    async def send(self, name: BatchName, body: bytes) -> Answer:
        """POST one batch (gzip-compressed lines). Raises CollectorUnreachable when there is no answer, ConfigError
        when the token cannot be read.
        """
        headers = {
            HEADER_AGENT: name.agent,
            HEADER_BOOT: name.boot,
            HEADER_SEQUENCE: str(name.sequence),
            "Content-Type": "application/x-ndjson",
            "Content-Encoding": "gzip",
        }
        return await self._request("POST", _BATCHES, headers=headers, content=body)

    async def ready(self) -> Answer:
        """GET /readyz: does it answer and would it take a batch? Raises CollectorUnreachable when there is no answer."""
        return await self._request("GET", "/readyz", headers={}, content=None)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _request(self, method: str, path: str, *, headers: dict[str, str], content: bytes | None) -> Answer:
        token = self._token()
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        try:
            response = await self._http.request(method, path, headers=headers, content=content)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise CollectorUnreachable(
                f"no answer from the collector at {self.url}: {reason}; is `isochrone collector` running there?"
            ) from error
        return _answer(response)

    def _token(self) -> str | None:
        if self._token_file is None:
            return None
        try:
            token = self._token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"collector.token_file {self._token_file} cannot be read: {error}") from error
        if not token or any(character.isspace() for character in token):
            raise ConfigError(f"collector.token_file {self._token_file} must hold one token and nothing else")
        return token


def _answer(response: httpx.Response) -> Answer:
    """What an answer says; the collector's own are JSON, a proxy's in between may be anything."""
    text, rejected = response.text.strip(), 0
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict):
        text = str(body.get("error", text))
        rejected = body["rejected"] if isinstance(body.get("rejected"), int) else 0
    retry_after_s = _retry_after_s(response.headers)
    return Answer(status=response.status_code, retry_after_s=retry_after_s, text=text[:500], rejected_lines=rejected)


def _retry_after_s(headers: httpx.Headers) -> float | None:
    """Retry-After in seconds (RFC 9110 section 10.2.3); a date is taken against the answer's own Date, not our clock."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        if value.strip().isdigit():
            seconds = float(value)
        else:
            seconds = (parsedate_to_datetime(value) - parsedate_to_datetime(headers["date"])).total_seconds()
    except (ValueError, KeyError, TypeError):
        return None
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER_S)


class Uplink:
    """Sends a spool's segments in order, one at a time, until it is cancelled.

    rng    of the back-off
    sleep  `asyncio.sleep`, or a test's own
    """

    def __init__(
        self,
        spool: Spool,
        client: CollectorClient,
        *,
        rng: random.Random,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.stored_batches = 0
        self.rejected_measurements = 0
        self.quarantined_measurements = 0
        self.trouble: str | None = None
        self._spool, self._client, self._sleep = spool, client, sleep
        self._backoff = Backoff(rng)
        self._sealed = asyncio.Event()

    def wake(self) -> None:
        """Something was sealed."""
        self._sealed.set()

    async def run(self) -> None:
        """Send for ever; ends only by being cancelled."""
        while True:
            self._sealed.clear()
            pause_s = await self.drain()
            if pause_s is None:
                await self._sealed.wait()
            else:
                await self._sleep(pause_s)

    async def drain(self) -> float | None:
        """Send until nothing waits (None) or a try fails (the seconds to pause before the next one)."""
        while (segment := self._spool.oldest()) is not None:
            try:
                pause_s = await self._send_one(segment)
            finally:
                self._spool.release()
            if pause_s is not None:
                return pause_s
        return None

    async def _send_one(self, segment: Segment) -> float | None:
        try:
            body = await asyncio.to_thread(segment.read)
        except OSError as error:
            log.warning("%s cannot be read: %s; %d measurements are lost", segment.path, error.strerror, segment.measurements)
            self._spool.lose(segment)
            return None
        try:
            answer = await self._client.send(segment.name, body)
        except (CollectorUnreachable, ConfigError) as error:
            return self._pause(str(error), None)
        verdict = judge(answer.status)
        if verdict in {Verdict.BUSY, Verdict.FAILED, Verdict.REFUSED}:
            said = f"the collector at {self._client.url} answered {answer.status}" + (f": {answer.text}" if answer.text else "")
            if verdict is Verdict.REFUSED:
                return self._pause(f"{said}; check collector.token_file, agent.id and agent.site", _REFUSED_AGAIN_S)
            return self._pause(said, answer.retry_after_s)
        name = f"batch {segment.name.boot}/{segment.name.sequence} ({segment.measurements} measurements)"
        if verdict is Verdict.STORED:
            self.stored_batches += 1
            self._spool.done(segment)
            if answer.rejected_lines:
                self.rejected_measurements += answer.rejected_lines
                log.error("%d lines of %s were rejected by the collector, which keeps them with the reason", answer.rejected_lines, name)
        elif verdict is Verdict.REJECTED:
            self.rejected_measurements += segment.measurements
            self._spool.done(segment)
            log.error("%s was rejected by the collector, which keeps it with the reason: %s", name, answer.text)
        else:
            self.quarantined_measurements += segment.measurements
            log.error("%s will not be taken (%d: %s); kept aside as %s", name, answer.status, answer.text, self._spool.quarantine(segment))
        if self.trouble is not None:
            log.info("the collector takes batches again; %d wait", self._spool.waiting)
            self.trouble = None
        self._backoff.reset()
        return None

    def _pause(self, trouble: str, asked_s: float | None) -> float:
        """Say what is wrong when it is new, and how long to wait."""
        backoff_s = self._backoff.next_s()
        if trouble != self.trouble:
            log.warning("%s; batches are kept (%d wait)", trouble, self._spool.waiting)
            self.trouble = trouble
        # A pause asked for is kept in full, and a little more at random, so that agents do not all come back at once.
        return backoff_s if asked_s is None else asked_s + min(backoff_s, 1.0)
