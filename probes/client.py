"""HTTP to a collector: one request in, one answer out. What an answer means for a batch is the uplink's business."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from probes.hosts import parse_ip
from probes.secret import SecretFile
from probes.status import product_version
from records.batch import HEADER_AGENT, HEADER_BOOT, HEADER_CLOCK_SET, HEADER_SENT_AT, HEADER_SEQUENCE, HEADER_VERSION, BatchName
from records.errors import CollectorUnreachable, ConfigError, OutsideError, UserError
from records.texts import one_line

__all__ = ["Answer", "CollectorClient", "check_collector_url", "check_way", "is_private_way"]

_BATCHES = "/api/v1/batches"
_MAX_RETRY_AFTER_S = 600.0
_MAX_ANSWER_BYTES = 4 << 20
#: A next secret that was refused is tried after the one in use for so long.
_NEXT_AGAIN_S = 60.0
#: A body may take a second more for every so many bytes, which is what a collector grants too.
_LEAST_BYTES_PER_S = 10_000

log = logging.getLogger("isochrone.uplink")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A collector's answer: HTTP status, the pause it asks for, what it says, and how many lines of the batch it rejected.

    code  the collector's own word for a refusal; empty where there is none
    body  the JSON object it answered; empty where it is none
    etag  names the version of what it answered; empty where there is none
    ahead_s   how far this host's clock is ahead of the Date that it answered, to a second or so; None where there is none
    """

    status: int
    retry_after_s: float | None
    text: str
    rejected_lines: int = 0
    code: str = ""
    body: Mapping[str, object] = field(default_factory=dict)
    etag: str = ""
    ahead_s: float | None = None


def check_collector_url(url: str) -> tuple[str, str | None]:
    """(base URL, path of the unix socket or None) of a collector address.

    Accepts ``http://host:port``, ``https://host:port`` and ``http+unix:///path/to.sock``; raises ConfigError otherwise.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigError(f"collector address {url!r} is none: {error}; give one such as http://HOST:PORT") from None
    if parts.scheme == "http+unix" and parts.path.startswith("/") and not parts.netloc:
        return "http://collector", parts.path
    if parts.scheme in {"http", "https"} and parts.hostname and parts.username is None and not parts.query:
        return url.rstrip("/"), None
    shown = url if parts.username is None else f"{parts.scheme}://…@{parts.hostname}"
    raise ConfigError(
        f"collector address {shown!r} is not one of http://HOST:PORT, https://HOST:PORT, http+unix:///PATH/TO.sock; "
        "a token goes into a file of its own"
    )


def is_private_way(url: str) -> bool:
    """Whether nobody else can read what is sent there: TLS, or this machine.

    >>> is_private_way("https://collector.example:8600"), is_private_way("http://127.0.0.1:8600"), is_private_way("http://collector.example")
    (True, True, False)
    """
    base, socket_path = check_collector_url(url)
    parts = urlsplit(base)
    if socket_path is not None or parts.scheme == "https":
        return True
    address = parse_ip(parts.hostname or "")
    return parts.hostname == "localhost" if address is None else address.is_loopback


def check_way(url: str, *, is_insecure: bool) -> None:
    """Raise UserError where others could read the secret and what is sent, unless that is meant to be so."""
    if not is_insecure and not is_private_way(url):
        raise UserError(
            f"{url} is another host without TLS, where others could read the agent's secret; use https://, "
            "or allow it in a lab (--insecure, or collector.allow_insecure = true)"
        )


class CollectorClient:
    """HTTP to one collector; the secret is read at every request, so that it can be replaced under a running agent.

    While a secret is being replaced both are tried: which of them the collector takes, it says.
    """

    def __init__(self, url: str, *, token_file: Path | None = None, ca_file: Path | None = None, timeout_s: float = 30.0) -> None:
        self.url = url
        self._secret = None if token_file is None else SecretFile(token_file)
        self._next_refused_s = -_NEXT_AGAIN_S
        self._timeout_s = 2 * timeout_s  # to send, and to wait for the answer
        base, socket_path = check_collector_url(url)
        transport = httpx.AsyncHTTPTransport(uds=socket_path) if socket_path else None
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 10.0))
        verify: ssl.SSLContext | bool = True if ca_file is None else _authority(ca_file)
        self._http = httpx.AsyncClient(
            base_url=base,
            transport=transport,
            timeout=timeout,
            follow_redirects=False,
            verify=verify,
            headers={HEADER_VERSION: product_version(), "Accept-Encoding": "identity"},
        )

    async def send(self, name: BatchName, body: bytes, *, clock_set_ns: int | None = None) -> Answer:
        """POST one batch (gzip-compressed lines).

        clock_set_ns   how far the wall clock was set since its lines were dated; None: not, or not known

        Raises CollectorUnreachable when there is no answer, ConfigError when the token cannot be read.
        """
        headers = {
            HEADER_AGENT: name.agent,
            HEADER_BOOT: name.boot,
            HEADER_SEQUENCE: str(name.sequence),
            HEADER_SENT_AT: str(time.time_ns()),
            "Content-Type": "application/x-ndjson",
            "Content-Encoding": "gzip",
        }
        if clock_set_ns is not None:
            headers[HEADER_CLOCK_SET] = str(clock_set_ns)
        return await self._request("POST", _BATCHES, headers=headers, content=body)

    async def ready(self) -> Answer:
        """GET /readyz: does it answer and would it take a batch? Raises CollectorUnreachable when there is no answer."""
        return await self._request("GET", "/readyz", headers={}, content=None)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def call(self, method: str, path: str, body: Mapping[str, object] | None = None, *, secret: str | None = None) -> Answer:
        """One request with a JSON body or none, under `secret`, or under none. Raises CollectorUnreachable."""
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        return await self._exchange(method, path, headers, None if body is None else json.dumps(body).encode())

    async def call_own(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Answer:
        """The same under the agent's own secret. Raises ConfigError too, when that cannot be read."""
        headers = {} if body is None else {"Content-Type": "application/json"}
        return await self._request(method, path, headers=headers, content=None if body is None else json.dumps(body).encode())

    async def ask_own(self, path: str, *, etag: str = "") -> Answer:
        """GET under the agent's own secret; 304 where it is still of that `etag`. Raises as `call_own`."""
        return await self._request("GET", path, headers={"If-None-Match": etag} if etag else {}, content=None)

    async def _request(self, method: str, path: str, *, headers: dict[str, str], content: bytes | None) -> Answer:
        """Under the agent's secret; under the next one too while it is being replaced."""
        if self._secret is None:
            return await self._exchange(method, path, headers, content)
        following = self._secret.next()
        try:
            candidates = [self._secret.read()]
        except ConfigError:
            if following is None:
                raise
            candidates = []  # enrolled a moment ago, and cut off
        if following is not None:
            is_late = time.monotonic() < self._next_refused_s + _NEXT_AGAIN_S
            candidates.insert(len(candidates) if is_late else 0, following)
        for secret in candidates:
            answer = await self._exchange(method, path, headers | {"Authorization": f"Bearer {secret}"}, content)
            if answer.status == 200 and secret == following:
                self._promote(secret)
            if answer.status != 401:
                break
            if secret == following:
                self._next_refused_s = time.monotonic()
        return answer

    def _promote(self, secret: str) -> None:
        """The collector has taken the next secret, so that the old one has ended; where that cannot be noted both are kept."""
        assert self._secret is not None
        try:
            with self._secret.held() as is_alone:
                if is_alone:  # else `agent rotate` is at it
                    self._secret.promote(secret)
        except (OutsideError, ConfigError) as error:
            log.warning("%s; the next one beside it is used", error)

    async def _exchange(self, method: str, path: str, headers: Mapping[str, str], content: bytes | None) -> Answer:
        # httpx bounds each read; one that gives a byte now and then would hold the uplink for ever.
        limit_s = self._timeout_s + len(content or b"") / _LEAST_BYTES_PER_S
        try:
            async with asyncio.timeout(limit_s), self._http.stream(method, path, headers=headers, content=content) as response:
                return _answer(response.status_code, response.headers, await self._body(response))
        except TimeoutError:
            raise CollectorUnreachable(f"no whole answer from the collector at {self.url} within {limit_s:.0f} s") from None
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            hint = "is `isochrone collector` running there?"
            if "CERTIFICATE_VERIFY_FAILED" in reason:
                hint = "collector.ca_file (--ca-file) names the authority behind its certificate"
                if "has expired" in reason:
                    hint = "renew it at the collector, which reads it again by itself; or the clock of this host is wrong"
            raise CollectorUnreachable(f"no answer from the collector at {self.url}: {reason}; {hint}") from error

    async def _body(self, response: httpx.Response) -> bytes:
        """What is answered, as it came: whoever answers there does not fill our memory, not with something packed either."""
        body = b""
        async for part in response.aiter_raw():
            body += part
            if len(body) > _MAX_ANSWER_BYTES:
                raise CollectorUnreachable(
                    f"the answer of the collector at {self.url} is larger than {_MAX_ANSWER_BYTES} bytes; is that a collector?"
                )
        return body


def _authority(ca_file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"collector.ca_file {ca_file} cannot be used: {error.strerror or error}; give a PEM file") from None


def _answer(status: int, headers: httpx.Headers, content: bytes) -> Answer:
    """What an answer says; the collector's own are JSON, a proxy's in between may be anything."""
    text, rejected, code = content.decode("utf-8", "replace").strip(), 0, ""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    said = body if isinstance(body, dict) else {}
    if isinstance(body, dict):
        text = str(body.get("error", text))
        code = str(body.get("code", ""))
        rejected = body["rejected"] if isinstance(body.get("rejected"), int) else 0
    return Answer(
        status=status,
        retry_after_s=_retry_after_s(headers),
        text=one_line(text[:500]),  # it goes into logs and to terminals
        rejected_lines=rejected,
        code=code[:50],
        body=said,
        etag=headers.get("etag", "")[:100],
        ahead_s=_ahead_s(headers),
    )


def _ahead_s(headers: httpx.Headers) -> float | None:
    try:
        return time.time() - parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError):
        return None


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
