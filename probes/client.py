"""HTTP to a collector: one request in, one answer out. What an answer means for a batch is the uplink's business."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from records.batch import HEADER_AGENT, HEADER_BOOT, HEADER_SEQUENCE, BatchName
from records.errors import CollectorUnreachable, ConfigError

__all__ = ["Answer", "CollectorClient", "check_collector_url"]

_BATCHES = "/api/v1/batches"
_MAX_RETRY_AFTER_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A collector's answer: HTTP status, the pause it asks for, what it says, and how many lines of the batch it rejected."""

    status: int
    retry_after_s: float | None
    text: str
    rejected_lines: int = 0


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
