"""The serving probe: one reading of a server's metrics, as a ServingResult."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import asdict

from probes.inference.chunk import hide
from probes.inference.client import ConnectFailed, Connection, tls_context
from probes.inference.config import Endpoint, parse_endpoint
from probes.inference.keys import read_key
from probes.inference.session import Fetch
from probes.model import Target, Vantage
from probes.resolve import Resolver
from probes.serving.config import ServingConfig
from probes.serving.metrics import NotMetrics, Reading, read_metrics
from probes.tcp_info import TcpInfo
from records.batch import Line
from records.claims import ServingOutcome, ServingResult
from records.errors import ConfigError

__all__ = ["ENGINE", "ServingProbe"]

ENGINE = "isochrone-serving/1"
_UNKNOWN = "these are metrics, but of no inference server that is known (vLLM, SGLang, TensorRT-LLM, Triton, llama.cpp)"
_ACCEPT = "text/plain; version=0.0.4, text/plain; q=0.5"


class ServingProbe:
    """Reads any number of targets at once, each over a connection of its own.

    The target's key is sent along only where the metrics are at the very host and port of its API.

    once() raises ConfigError for a target without a (readable) URL or key; whatever the network or the server does is a result.
    """

    name = "serving"

    def __init__(self, config: ServingConfig) -> None:
        self.config = config
        self._tls: ssl.SSLContext | None = None
        self._resolver = Resolver()

    async def open(self) -> None:
        """Load the certificates. Raises ConfigError when `ca_file` cannot be used."""
        ca_file = self.config.ca_file
        try:
            self._tls = tls_context(ca_file, self.config.http)
        except OSError as error:
            raise ConfigError(f"serving ca_file {ca_file!r} cannot be used: {error.strerror or error}; give a PEM file") from None

    async def close(self) -> None:
        """Let the resolver's threads end."""
        self._resolver.close()

    async def once(self, target: Target, vantage: Vantage) -> tuple[Line, ...]:
        """One reading: exactly one ServingResult."""
        if not target.metrics_url:
            raise ConfigError(f"target {target.site} has no metrics_url; give it one such as http://192.0.2.1:8000/metrics")
        endpoint = parse_endpoint(target.metrics_url)
        key = read_key(target) if _is_beside_api(endpoint, target) else None
        header = vantage.header(target, measured=endpoint.url, started_at_ns=time.time_ns(), engine=ENGINE)
        began_ns = time.monotonic_ns()
        connection = Connection(endpoint, self._tls, http=self.config.http, resolver=self._resolver)
        fetch: Fetch | None = None
        outcome: ServingOutcome = "ok"
        error: str | None = None
        tcp, reading = TcpInfo(), None
        try:
            async with asyncio.timeout(self.config.timeout_ms / 1000):
                await connection.open()
                assert connection.wire is not None
                fetch = Fetch(connection.wire, max_response_bytes=self.config.max_response_bytes, secret=key)
                await connection.run(fetch, fetch.request("GET", endpoint.path or "/", _headers(endpoint, key)))
        except ConnectFailed as failed:
            outcome, error = "connect_failed", str(failed)
        except TimeoutError:
            outcome, error = "timeout", f"no complete answer within {self.config.timeout_ms} ms"
        finally:
            tcp = connection.tcp_info()
            connection.close()
        took_ns = time.monotonic_ns() - began_ns if outcome == "ok" else None
        if fetch is not None and outcome == "ok":
            outcome, error, reading = _judged(fetch)
        return (
            ServingResult(
                **header,
                **(asdict(reading) if reading is not None else {}),
                outcome=outcome,
                error=hide(error, key) if error else None,
                http_status=fetch.status if fetch else None,
                took_ns=took_ns,
                response_bytes=(fetch.response_bytes or None) if fetch else None,
                tcp_rtt_ns=tcp.rtt_ns,
            ),
        )


def _judged(fetch: Fetch) -> tuple[ServingOutcome, str | None, Reading | None]:
    if fetch.failure is not None:
        return fetch.failure[0], fetch.failure[1], None
    try:
        reading = read_metrics(fetch.body.decode("utf-8", "replace"))
    except NotMetrics as why:
        return "protocol_error", str(why), None
    if reading is None:
        return "no_metrics", _UNKNOWN, None
    return "ok", None, reading


def _headers(endpoint: Endpoint, key: str | None) -> dict[str, str]:
    headers = {"Host": endpoint.authority, "User-Agent": ENGINE, "Accept": _ACCEPT, "Connection": "close"}
    return headers if key is None else {**headers, "Authorization": f"Bearer {key}"}


def _is_beside_api(endpoint: Endpoint, target: Target) -> bool:
    if target.inference_url is None:
        return target.api_key_file is not None or target.api_key_env is not None
    api = parse_endpoint(target.inference_url)
    return (api.scheme, api.host, api.port) == (endpoint.scheme, endpoint.host, endpoint.port)
