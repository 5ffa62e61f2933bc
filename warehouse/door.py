"""The collector's door: whose token it is, and how one gets a token of one's own.

::

    POST /api/v1/enroll    {"invitation", "agent", "site", "secret_sha256"}: 200 enrolled, or was by this very request before;
                           403 the invitation is none, used, expired or another's; 409 the name is taken
    POST /api/v1/rotate    {"secret_sha256", "grace_s"}, under the token in use: 200 both are valid from now on
    GET  /api/v1/agents/ID/config   200 its signed configuration (ETag), 304 it has it already, 403 another agent's, 404 there is none
    GET  /api/v1/identity  200 whose token it is; the first use of a next one, here or with a batch, ends the old one

The others: 400 unreadable, 404 this collector keeps no token file, 503 its token file cannot be written. A secret itself is
never sent but as the bearer token, and never kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from records.batch import HEADER_VERSION
from records.errors import ConfigError, OutsideError
from records.place import SLUG
from warehouse.publications import Publications
from warehouse.refusal import Refusal
from warehouse.roster import DIGEST_LENGTH, MAX_GRACE, Refused, Roster, digest
from warehouse.roster_file import RosterFile

__all__ = ["Door"]

log = logging.getLogger("isochrone.collector")

_MAX_BODY_BYTES = 4096
_BODY_TIMEOUT_S = 10.0
_DEFAULT_GRACE_S = 86400.0
_NAME = re.compile(r"[!-~]{1,128}")
_DIGEST = re.compile(rf"[0-9a-f]{{{DIGEST_LENGTH}}}")
_INVITATION = re.compile(r"[!-~]{16,256}")


class Door:
    """Who may come in: a roster that stays as it is, one in a file, or None: anybody on this machine."""

    def __init__(self, roster: Roster | RosterFile | None, publications: Publications | None = None) -> None:
        self._publications = publications
        self._fixed = roster if isinstance(roster, Roster) else None
        self.file = roster if isinstance(roster, RosterFile) else None
        self.outcomes: Counter[str] = Counter()

    def roster(self) -> Roster | None:
        """Who is known now."""
        return self.file.current() if self.file is not None else self._fixed

    async def authorised(self, request: Request) -> str | None:
        """The agent that the request's token belongs to; None when no tokens are asked for. Raises Refusal."""
        roster = self.roster()
        if roster is None:
            return None
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip()
        now = datetime.now(UTC)
        with _refusals():
            known = roster.who(token if scheme.lower() == "bearer" else "", now)
            if known.is_next and self.file is not None:
                # On disk before it is used: from this answer on the agent may forget its old secret.
                await self._change(lambda found: found.rotated(known.agent, digest(token), now))
                self.outcomes["rotated"] += 1
                log.info("agent %r uses its next secret; the old one ended", known.agent)
        return known.agent

    def check_site(self, agent: str, sites: set[str]) -> None:
        """Raise Refusal when an agent measures from elsewhere than its site."""
        roster = self.roster()
        site = None if roster is None else roster.site_of(agent)
        if site is not None and sites - {site}:
            other = ", ".join(sorted(sites - {site}))
            raise Refusal(403, "forbidden", f"agent {agent!r} measures from {site!r} and the batch says {other}")

    def check_version(self, request: Request) -> None:
        """Raise Refusal for an agent that is older than what this collector takes batches from."""
        roster = self.roster()
        if roster is not None:
            with _refusals():
                roster.check_version(request.headers.get(HEADER_VERSION, "")[:64])

    async def enroll(self, request: Request) -> Response:
        """POST /api/v1/enroll."""
        return await self._answer(self._enroll(request))

    async def rotate(self, request: Request) -> Response:
        """POST /api/v1/rotate."""
        return await self._answer(self._rotate(request))

    async def identity(self, request: Request) -> Response:
        """GET /api/v1/identity."""
        return await self._answer(self._identity(request))

    async def _answer(self, work: Awaitable[dict[str, object]]) -> Response:
        try:
            body = await work
        except Refusal as refusal:
            self.outcomes[refusal.outcome] += 1
            return refusal.response()
        return JSONResponse(body)

    async def _enroll(self, request: Request) -> dict[str, object]:
        file = self._file()
        body = await _body(request, {"invitation": _INVITATION, "agent": _NAME, "site": _NAME, "secret_sha256": _DIGEST})
        invitation, agent, site = str(body["invitation"]), str(body["agent"]), str(body["site"])
        for name in ("agent", "site"):  # who was let in under another name before goes on
            if not SLUG.fullmatch(str(body[name])):
                raise Refusal(400, "unreadable", f"{name} must be a slug such as 'sin-1' or 'aws:us-east-1' (a-z, 0-9, '.', '_', '-')")
        now = datetime.now(UTC)

        def make(roster: Roster) -> Roster:
            return roster.enrolled(invitation, agent=agent, site=site, secret_digest=str(body["secret_sha256"]), now=now)

        with _refusals():
            make(file.current())  # whoever has no invitation costs no lock and no write
            await self._change(make)
        self.outcomes["enrolled"] += 1
        log.info("agent %r is enrolled at site %r", agent, site)
        return {"agent": agent, "site": site, **self._config_key()}

    async def _rotate(self, request: Request) -> dict[str, object]:
        self._file()
        agent = await self.authorised(request)
        assert agent is not None
        body = await _body(request, {"secret_sha256": _DIGEST})
        grace_s = body.get("grace_s", _DEFAULT_GRACE_S)
        if isinstance(grace_s, bool) or not isinstance(grace_s, int | float) or not 1 <= grace_s <= MAX_GRACE.total_seconds():
            raise Refusal(400, "unreadable", f"grace_s must be a number from 1 to {MAX_GRACE.total_seconds():.0f}")
        now = datetime.now(UTC)
        with _refusals():
            changed = await self._change(
                lambda roster: roster.rotating(agent, str(body["secret_sha256"]), grace=timedelta(seconds=grace_s), now=now)
            )
        self.outcomes["rotating"] += 1
        until = changed.agents[agent].next_until
        return {"agent": agent, "valid_until": None if until is None else until.isoformat()}

    async def _identity(self, request: Request) -> dict[str, object]:
        self._file()
        agent = await self.authorised(request)
        roster = self.roster()
        site = roster.site_of(agent) if roster is not None and agent is not None else None
        return {"agent": agent, "site": site, **self._config_key()}

    def _config_key(self) -> dict[str, object]:
        """The key that an agent pins at its enrolment."""
        key = None if self._publications is None else self._publications.key
        return {} if key is None else {"config_key": key}

    async def config(self, request: Request) -> Response:
        """GET /api/v1/agents/{id}/config."""
        try:
            return await self._config(request)
        except Refusal as refusal:
            return refusal.response()

    async def _config(self, request: Request) -> Response:
        name = request.path_params["agent"]
        agent = await self.authorised(request)
        if agent is not None and agent != name:
            raise Refusal(403, "forbidden", f"this token belongs to agent {agent!r}, and an agent reads its own configuration only")
        roster = self.roster()
        site = roster.site_of(name) if roster is not None else None
        found = None
        if self._publications is not None:
            found = await run_in_threadpool(self._publications.newest, name, site if site is not None else request.query_params.get("site"))
        if found is None:
            raise Refusal(404, "no_config", "no configuration is published for this agent; its own file holds")
        headers = {"ETag": f'"{found.generation}-{found.digest}"', "Cache-Control": "no-store"}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(found.document, media_type="application/json", headers=headers)

    async def _change(self, make: Callable[[Roster], Roster]) -> Roster:
        try:
            return await run_in_threadpool(self._file().change, make)
        except (OutsideError, ConfigError) as error:
            log.error("%s", error)  # noqa: TRY400  no fault of ours
            raise Refusal(
                503, "unavailable", "the collector cannot write its token file; its log says why", **{"Retry-After": "30"}
            ) from None

    def _file(self) -> RosterFile:
        if self.file is None:
            raise Refusal(
                404, "no_tokens", "this collector keeps no token file (isochrone collector --tokens FILE), so there is nothing to enrol in"
            )
        return self.file


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What a roster does not allow, as an answer."""
    try:
        yield
    except Refused as why:
        headers = {"WWW-Authenticate": "Bearer"} if why.status == 401 else {}
        if why.status == 426:  # RFC 9110 section 15.5.22 wants to know of a protocol
            headers = {"Upgrade": "isochrone-agent", "Connection": "Upgrade"}
        raise Refusal(why.status, why.code, why.detail, **headers) from None


async def _body(request: Request, texts: dict[str, re.Pattern[str]]) -> dict[str, object]:
    """A small JSON object with the texts that are needed. Nothing of it is repeated in a message: it holds secrets."""
    raw = b""
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            async for part in request.stream():
                raw += part
                if len(raw) > _MAX_BODY_BYTES:
                    raise Refusal(413, "too_large", f"the body is larger than {_MAX_BODY_BYTES} bytes")
    except TimeoutError:
        raise Refusal(408, "too_slow", f"the body did not come within {_BODY_TIMEOUT_S:.0f} s", Connection="close") from None
    except ClientDisconnect:
        raise Refusal(400, "cut_off", "the connection ended before the body did") from None
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise Refusal(400, "unreadable", f"the body must be a JSON object with {', '.join(texts)}")
    for name, pattern in texts.items():
        value = body.get(name)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise Refusal(400, "unreadable", f"{name} must be a text that matches {pattern.pattern}")
    return body
