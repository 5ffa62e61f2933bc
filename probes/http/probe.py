"""The http probe type: a connection to a target's endpoint, and one more that resumes its TLS session."""

from __future__ import annotations

import contextlib
import time

from probes.http.client import ENGINE, Certificates, Known, Visitor
from probes.http.config import HttpConfig, WebEndpoint, parse_url
from probes.model import Target, Vantage
from probes.resolve import Resolver
from probes.stream import keep_stamping
from records.batch import Line
from records.errors import ConfigError
from records.measurement import HttpResult

__all__ = ["HttpProbe"]


class HttpProbe:
    """Measures any number of targets at once; each measurement is one HttpResult, with `resume` and TLS two.

    once() raises ConfigError for a target without a (readable) URL; whatever the network or the server does is a result.
    """

    name = "http"

    def __init__(self, config: HttpConfig) -> None:
        self.config = config
        self._visitor: Visitor | None = None
        self._resolver = Resolver()
        self._stamping = contextlib.ExitStack()

    async def open(self) -> None:
        """Load the certificates. Raises ConfigError when `ca_file` cannot be used."""
        self._stamping.enter_context(keep_stamping())
        self._visitor = Visitor(self.config, Certificates(self.config.ca_file), self._resolver)

    async def close(self) -> None:
        """Let the resolver's threads end."""
        self._stamping.close()
        self._resolver.close()
        self._visitor = None

    async def once(self, target: Target, vantage: Vantage) -> tuple[Line, ...]:
        """One target, now."""
        if self._visitor is None:
            raise RuntimeError("open() the probe before it measures")
        if not target.http_url:
            raise ConfigError(f"target {target.site} has no http_url; give it one such as https://host/")
        endpoint = parse_url(target.http_url)
        wants_session = self.config.resume and endpoint.has_tls
        first, known = await self._visit(endpoint, target, vantage, None, keep_session=wants_session)
        if not wants_session or first.outcome != "ok":
            return (first,)
        second, _ = await self._visit(endpoint, target, vantage, known)
        return (first, second)

    async def _visit(
        self, endpoint: WebEndpoint, target: Target, vantage: Vantage, known: Known | None, *, keep_session: bool = False
    ) -> tuple[HttpResult, Known]:
        assert self._visitor is not None
        header = vantage.header(target, measured=endpoint.url, started_at_ns=time.time_ns(), engine=ENGINE)
        return await self._visitor.visit(endpoint, header, known, keep_session=keep_session)
