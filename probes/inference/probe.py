"""The inference probe: one streaming request to a target's endpoint, as an InferenceResult."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import ssl
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from probes.inference.budget import Budget
from probes.inference.chunk import hide
from probes.inference.client import ConnectFailed, Connection, tls_context
from probes.inference.config import Endpoint, InferenceConfig, parse_endpoint, prompt_text, request_body
from probes.inference.http1 import Http1
from probes.inference.keys import read_key
from probes.inference.session import Answer, Fetch, Outcome, StreamedAnswer
from probes.model import Target, Vantage, Withheld
from probes.resolve import Resolver
from probes.stream import keep_stamping
from probes.tcp_info import TcpInfo
from records.batch import Line
from records.errors import ConfigError
from records.measurement import InferenceResult

__all__ = ["ENGINE", "InferenceProbe"]

ENGINE = "isochrone-inference/2"
_MODEL_LIST_BYTES = 4_000_000


@dataclass(slots=True)
class _Shared:
    """What outlives one request: the certificates, the budget, the kept connections, the names of the models, who asked to wait."""

    config: InferenceConfig
    budget: Budget
    tls: ssl.SSLContext | None = None
    resolver: Resolver = field(default_factory=Resolver)
    kept: dict[tuple[str, str, str], Connection] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    waits: dict[str, tuple[int, str]] = field(default_factory=dict)  # by URL: until when (monotonic, ns), and in words


class InferenceProbe:
    """Asks one target at a time; several targets may be asked at once.

    The measured request is cold unless `config.warm`; then its connection is one that answered before, or (many
    servers close after a stream) one that has just been opened and asked for the list of models. A target without a
    model name is asked for its list of models first, once, over a connection of its own. The bearer token is read
    for every request, so that it may change, and appears in no result, error or log.

    once() raises ConfigError for a target without a (readable) URL or key, and Withheld when the day's budget has no room
    for the request or the target asked to be left alone (Retry-After); whatever the network or the server does is a result.
    """

    name = "inference"

    def __init__(self, config: InferenceConfig, clock: Callable[[], float] = time.time) -> None:
        file = Path(config.budget_file) if config.budget_file else None
        budget = Budget(file, requests=config.daily_requests, tokens=config.daily_tokens, clock=clock)
        self._shared = _Shared(config, budget)
        self._stamping = contextlib.ExitStack()

    async def open(self) -> None:
        """Load the certificates. Raises ConfigError when `ca_file` cannot be used."""
        self._shared.tls = _tls_context(self._shared.config)
        self._stamping.enter_context(keep_stamping())

    async def close(self) -> None:
        """Close the kept connections."""
        self._stamping.close()
        self._shared.resolver.close()
        for connection in self._shared.kept.values():
            connection.close()
        self._shared.kept.clear()

    async def once(self, target: Target, vantage: Vantage) -> tuple[Line, ...]:
        """One request to one target: exactly one InferenceResult."""
        if not target.inference_url:
            raise ConfigError(f"target {target.site} has no inference_url; give it one such as http://192.0.2.1:8080/v1")
        endpoint = parse_endpoint(target.inference_url)
        key = read_key(target)
        self._check_wait(endpoint)
        taken = self._shared.config.most_tokens
        self._shared.budget.take(taken)
        header = vantage.header(target, measured=endpoint.url, started_at_ns=time.time_ns(), engine=ENGINE)
        attempt = _Attempt(self._shared, endpoint, target, key)
        timeout_ms = self._shared.config.timeout_ms
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await attempt.run()
        except TimeoutError:
            attempt.fail("timeout", f"no complete answer within {timeout_ms} ms ({attempt.phase})")
        finally:
            attempt.settle()
        answer, connection = attempt.answer(), attempt.connection
        self._account(attempt, answer, taken)
        if answer.retry_after_ns is not None and self._shared.config.heed_retry_after:
            until = datetime.fromtimestamp(time.time() + answer.retry_after_ns / 1e9, UTC)
            words = f"{endpoint.authority} asked to be left alone until {until:%Y-%m-%d %H:%M:%S} UTC (Retry-After)"
            self._shared.waits[endpoint.url] = (time.monotonic_ns() + answer.retry_after_ns, words)
        header["started_at_ns"] = attempt.started_at_ns or header["started_at_ns"]
        is_cold = not attempt.is_warm
        return (
            InferenceResult(
                **header,
                **{**asdict(answer), "error": hide(answer.error, key) if answer.error else None},
                model=hide(attempt.model, key),
                connection="cold" if is_cold else "warm",
                http_version=connection.wire.version if connection and connection.wire else None,
                address=connection.address if connection else None,
                dns_ns=connection.dns_ns if connection and is_cold else None,
                tcp_ns=connection.tcp_ns if connection and is_cold else None,
                tls_ns=connection.tls_ns if connection and is_cold else None,
                tls_version=connection.tls_version if connection else None,
                tcp_rtt_ns=attempt.tcp.rtt_ns,
                tcp_min_rtt_ns=attempt.tcp.min_rtt_ns,
                tcp_retransmits=attempt.tcp.retransmits,
            ),
        )

    def _check_wait(self, endpoint: Endpoint) -> None:
        """Raise Withheld while the endpoint wants to be left alone."""
        until_ns, words = self._shared.waits.get(endpoint.url, (0, ""))
        if time.monotonic_ns() < until_ns:
            raise Withheld(words)
        self._shared.waits.pop(endpoint.url, None)

    def _account(self, attempt: _Attempt, answer: Answer, taken: int) -> None:
        """Give back to the budget what the request did not take."""
        if not attempt.is_asked:
            self._shared.budget.give_back(taken, request=True)
        elif answer.prompt_tokens is not None and answer.completion_tokens is not None:
            self._shared.budget.give_back(taken - answer.prompt_tokens - answer.completion_tokens)
        elif answer.outcome == "http_error":
            self._shared.budget.give_back(taken)


class _Attempt:
    """The life of one request: find the model, connect, ask, settle the connection."""

    def __init__(self, shared: _Shared, endpoint: Endpoint, target: Target, key: str | None) -> None:
        self._shared = shared
        self._endpoint = endpoint
        self._key = key
        self._config = shared.config
        self._slot = (target.site, target.medium, endpoint.url)
        self._exchange: StreamedAnswer | None = None
        self._failure: tuple[Outcome, str] | None = None
        self._headers = {
            "Host": endpoint.authority,
            "User-Agent": ENGINE,
            "Content-Type": "application/json",
            "Accept": "text/event-stream, application/json",
        }
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self.model = target.inference_model or ""
        self.connection: Connection | None = None
        self.is_warm = False
        self.is_asked = False  # the measured request was made
        self.started_at_ns: int | None = None  # Unix time: of the connection that carries it, of the request itself when that is warm
        self._is_kept = False  # the connection served an earlier request
        self.tcp = TcpInfo()
        self.phase = "before connecting"

    def fail(self, outcome: Outcome, error: str) -> None:
        """Note why there is no answer; the first reason stays."""
        if self._exchange is not None:
            self._exchange.fail(outcome, error)
        self._failure = self._failure or (outcome, error)

    async def run(self) -> None:
        """Everything up to the last byte of the answer; failures are noted, not raised (but for the time-out)."""
        await self._open()
        if self._failure is not None:
            return
        await self._ask()
        if self._is_kept and self._was_closed_unheard():
            # The server ended the kept connection at the very moment we used it; that says nothing of its speed.
            await self._open()
            if self._failure is None:
                await self._ask()

    async def _open(self) -> None:
        """A connection to ask over, in the time that connecting may take."""
        if self.connection is not None:
            self.connection.close()
        self.is_warm = self._is_kept = False
        try:
            async with asyncio.timeout(self._config.connect_timeout_ms / 1000) as connecting:
                await self._prepare()
        except TimeoutError:
            if not connecting.expired():
                raise
            limit = f"within {self._config.connect_timeout_ms} ms"
            self.fail("connect_failed", f"{self._endpoint.authority} did not answer {limit} ({self.phase})")
        except ConnectFailed as error:
            self.fail("connect_failed", str(error))

    def _was_closed_unheard(self) -> bool:
        return self._exchange is not None and self._exchange.failure is not None and self._exchange.is_unheard

    async def _ask(self) -> None:
        """The measured request."""
        assert self.connection is not None
        assert self.connection.wire is not None
        path, body = request_body(self._config, self.model, prompt_text(self._config.prompt_tokens, secrets.token_hex(8)))
        exchange = self._exchange = StreamedAnswer(
            self.connection.wire, max_response_bytes=self._config.max_response_bytes, secret=self._key
        )
        request = exchange.request("POST", self._endpoint.path + path, self._headers, body)
        self.phase = "waiting for the answer"
        self.is_asked = True
        if self.is_warm:
            self.started_at_ns = time.time_ns()
        await self.connection.run(exchange, request, keep=self._config.warm)

    async def _prepare(self) -> None:
        """Model name and connection; the connection of a warm request carries the question for the models first."""
        self.model = self.model or self._shared.models.get(self._endpoint.url, "")
        if self._config.warm:
            kept = self._shared.kept.pop(self._slot, None)
            if kept is not None and kept.renew():
                self.connection, self.is_warm, self._is_kept = kept, True, True
                return
            if kept is not None:
                kept.close()
            await self._connect()
            assert self.connection is not None
            await self._ask_models(self.connection)
            if self._failure is None and self.connection.renew():
                self.is_warm = True
            elif self._failure is None:
                self.connection.close()  # a server that keeps no connection open is measured cold
                await self._connect()
            return
        if not self.model:
            asking = Connection(self._endpoint, self._shared.tls, http=self._config.http, resolver=self._shared.resolver)
            try:
                self.phase = "asking for the model list"
                await asking.open()
                await self._ask_models(asking)
            finally:
                asking.close()
        if self._failure is None:
            await self._connect()

    async def _connect(self) -> None:
        self.phase = "connecting"
        self.started_at_ns = time.time_ns()
        self.connection = Connection(self._endpoint, self._shared.tls, http=self._config.http, resolver=self._shared.resolver)
        await self.connection.open()

    async def _ask_models(self, connection: Connection) -> None:
        """GET /models: the first model's name unless one is configured."""
        assert connection.wire is not None
        fetch = Fetch(connection.wire, max_response_bytes=_MODEL_LIST_BYTES, secret=self._key)
        await connection.run(fetch, fetch.request("GET", self._endpoint.path + "/models", self._headers))
        if self.model:
            return  # asked only to warm the connection; whether the list may be read does not matter
        if fetch.failure is not None:
            self.fail(fetch.failure[0], f"the list of models: {fetch.failure[1]}")
            return
        name = _first_model(bytes(fetch.body))
        if name is None:
            self.fail("protocol_error", "the list of models names none; set inference_model")
            return
        self.model = self._shared.models[self._endpoint.url] = name

    def settle(self) -> None:
        """Read TCP_INFO, then keep or close the connection. A model that is gone is asked for anew next time."""
        if self._exchange is not None and self._exchange.status == 404:
            self._shared.models.pop(self._endpoint.url, None)
        if self.connection is None:
            return
        self.tcp = self.connection.tcp_info()
        if self._config.warm and self._exchange is not None and self._exchange.finished and self._exchange.failure is None:
            stale = self._shared.kept.pop(self._slot, None)
            if stale is not None:
                stale.close()
            self._shared.kept[self._slot] = self.connection
        else:
            self.connection.close()

    def answer(self) -> Answer:
        """The report of the request, or of why none was sent."""
        exchange = self._exchange or StreamedAnswer(Http1(), max_response_bytes=1)
        if self._failure is not None:
            exchange.fail(*self._failure)
        return exchange.report(self.tcp)


def _first_model(body: bytes) -> str | None:
    """The first id of a ``/models`` answer."""
    try:
        models = json.loads(body).get("data")
        name = models[0].get("id")
    except (ValueError, RecursionError, AttributeError, LookupError, TypeError):
        return None
    return name if isinstance(name, str) and name else None


def _tls_context(config: InferenceConfig) -> ssl.SSLContext:
    try:
        return tls_context(config.ca_file, config.http)
    except OSError as error:
        raise ConfigError(f"inference ca_file {config.ca_file!r} cannot be used: {error.strerror or error}; give a PEM file") from None
