"""The collector: the agents' front door (ASGI). A batch is answered 200 only after it has been committed.

::

    POST /api/v1/batches   200 stored, or stored already; 400 unreadable (kept as a reject with the reason); 401 no or a wrong token;
                           403 not this agent, or not its site; 409 the name was used for other content; 413 too large;
                           425 the agent's clock is far off this host's (Retry-After); 426 this agent is too old; 429 the
                           queue is full (Retry-After); 503 the warehouse cannot be written to (Retry-After)
    POST /api/v1/enroll, /api/v1/rotate, GET /api/v1/identity: warehouse/door.py
    GET  /api/v1/openapi.json   all of this, for programs
    GET  /healthz          it runs
    GET  /readyz           it would store a batch
    GET  /metrics          OpenMetrics

The body is the batch's lines (records/batch.py), with ``Content-Encoding: gzip`` or plain.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from records.batch import HEADER_AGENT, HEADER_BOOT, HEADER_CLOCK_SET, HEADER_SENT_AT, HEADER_SEQUENCE, BatchName
from warehouse.clocks import NUMBER, redating_ns
from warehouse.connect import Warehouse, open_warehouse
from warehouse.door import Door
from warehouse.ingest import COLLECTOR, MAX_BODY_BYTES, Batch, Reject, TooLarge, Unreadable, decompress, parse
from warehouse.metrics import CONTENT_TYPE, Value, render
from warehouse.publications import Publications
from warehouse.refusal import Refusal
from warehouse.roster_file import RosterFile, fixed_roster
from warehouse.store import Outcome
from warehouse.tls import Tls
from warehouse.writer import Busy, Unstorable, Writer

__all__ = ["MAX_COMPRESSED_BYTES", "MAX_RECEIVED_BYTES", "Collector", "Companion", "make_app"]

log = logging.getLogger("isochrone.collector")

MAX_COMPRESSED_BYTES = 16 << 20
#: Most bytes of bodies in memory that are still coming in or wait to be read; beyond it a batch is answered 429.
MAX_RECEIVED_BYTES = 128 << 20
#: A body may take so long, and a second more for every so many bytes that came.
BODY_GRACE_S = 30.0
BODY_LEAST_BYTES_PER_S = 10_000
#: Bodies that are unpacked and read at one time: each may take a few hundred MB for the moment.
_READERS = 2
#: Agents of which it is remembered that their clocks are off.
_MOST_OFF = 10_000
_AGENT = re.compile(r"[!-~]{1,128}")
_BOOT = re.compile(r"[0-9A-Za-z_-]{1,64}")
_SEQUENCE = re.compile(r"[0-9]{1,18}")


class Companion(Protocol):
    """What runs beside a collector, in threads of its own, and has something to say at /metrics."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End, soon."""

    def values(self) -> Mapping[str, Value]:
        """Values by metric name (see warehouse.metrics)."""
        ...


class Collector:
    """The state behind the routes: the warehouse, its writer, the door, and the counts."""

    def __init__(
        self, warehouse: Warehouse, *, door: Door, tls: Tls | None = None, companion: Companion | None = None, commit_interval_s: float
    ) -> None:
        self.warehouse = warehouse
        self._tls, self.companion = tls, companion
        self.door = door
        self.writer = Writer(warehouse, interval_s=commit_interval_s)
        self.received_bytes = 0
        self.readers = ThreadPoolExecutor(_READERS, thread_name_prefix="batch-reader")
        self.batches: Counter[str] = Counter()
        self.rejects: Counter[str] = Counter()
        self._clocks_off: set[str] = set()

    async def post(self, request: Request) -> Response:
        """POST /api/v1/batches."""
        try:
            stored, already = await self._take(request)
        except Refusal as refusal:
            self.batches[refusal.outcome] += 1
            return refusal.response()
        self.batches["already" if already else "stored"] += 1
        if not already:
            self.rejects.update(reject.reason for reject in stored.rejects)
        return JSONResponse({"stored": stored.stored_count, "rejected": len(stored.rejects), "already": already})

    async def _take(self, request: Request) -> tuple[Batch, bool]:
        agent = await self.door.authorised(request)
        self.door.check_version(request)
        redate_ns = self._check_clock(request, agent)
        async with self._body(request) as body:
            if agent is not None:  # it may have been revoked while its body came in
                await self.door.authorised(request)
            return await self._take_body(request, agent, body, redate_ns)

    def _check_clock(self, request: Request, agent: str | None) -> int:
        """As `redating_ns`; says once of each agent that its clock, or this one, is wrong. Raises Refusal."""
        name = repr(request.headers.get(HEADER_AGENT, "")[:128]) if agent is None else repr(agent)
        try:
            redate_ns = redating_ns(request.headers, time.time_ns())
        except Refusal as refusal:
            if refusal.status == 425 and name not in self._clocks_off and len(self._clocks_off) < _MOST_OFF:
                self._clocks_off.add(name)
                log.warning("agent %s: %s; said of every agent, it is this host's clock", name, refusal)
            raise
        if name in self._clocks_off:
            self._clocks_off.discard(name)
            log.info("agent %s: its clock and this host's agree again", name)
        return redate_ns

    @contextlib.asynccontextmanager
    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """The body as sent, counted in `received_bytes` for as long as it is held; never more than the limits in memory."""
        parts: list[bytes] = []
        held = size = 0
        is_busy = self.writer.is_full
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            stream = request.stream()
            while True:
                try:
                    async with asyncio.timeout_at(began_s + BODY_GRACE_S + size / BODY_LEAST_BYTES_PER_S):
                        part = await anext(stream, None)
                except TimeoutError:
                    raise _too_slow() from None
                if part is None:
                    break
                size += len(part)
                if size > MAX_COMPRESSED_BYTES:
                    raise Refusal(413, "too_large", f"the body is larger than {MAX_COMPRESSED_BYTES} bytes; send smaller batches")
                # One that is refused is read to its end all the same: a client that is still sending would not see the answer.
                is_busy = is_busy or self.received_bytes + len(part) > MAX_RECEIVED_BYTES
                if is_busy:
                    parts.clear()
                    self.received_bytes -= held
                    held = 0
                    continue
                parts.append(part)
                held += len(part)
                self.received_bytes += len(part)
            if is_busy:
                raise _busy()
            body = b"".join(parts)
            parts.clear()
            yield body
        except ClientDisconnect as error:
            raise Refusal(400, "cut_off", "the connection ended before the body did") from error
        finally:
            self.received_bytes -= held

    async def _take_body(self, request: Request, agent: str | None, body: bytes, redate_ns: int) -> tuple[Batch, bool]:
        received_at = datetime.now(UTC)
        name: BatchName | None = None
        try:
            name = _name(request)
            if agent is not None and agent != name.agent:
                raise Refusal(403, "forbidden", f"this token belongs to agent {agent!r} and the batch names {name.agent!r}")
            encoding = request.headers.get("content-encoding", "")
            loop = asyncio.get_running_loop()
            batch = await loop.run_in_executor(self.readers, _read, body, encoding, name, received_at, redate_ns)
        except TooLarge as error:
            raise Refusal(413, "too_large", str(error)) from error
        except Unreadable as error:
            await self._keep(Reject(None, error.reason, str(error), None), name, body, received_at)
            raise Refusal(400, "unreadable", f"{error.reason}: {error}") from error
        self.door.check_site(batch.name.agent, set(batch.sites))
        try:
            outcome = await self._commit(batch)
        except Unstorable as error:
            await self._keep(Reject(None, "unstorable", str(error), None), name, body, received_at)
            raise Refusal(400, "unreadable", f"unstorable: {error}") from error
        if outcome is Outcome.CONFLICT:
            raise Refusal(409, "conflict", f"batch {name.boot}/{name.sequence} of {name.agent!r} was stored before with other content")
        return batch, outcome is Outcome.ALREADY

    async def _commit(self, job: Batch | tuple[object, ...]) -> Outcome:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Outcome] = loop.create_future()
        try:
            self.writer.submit(job).add_done_callback(partial(_pass_on, loop, outcome))
        except Busy:
            raise _busy() from None
        try:
            return await outcome
        except Unstorable:
            raise
        except Exception as error:
            raise Refusal(503, "unavailable", f"the warehouse cannot be written to: {error}", **{"Retry-After": "5"}) from error
        finally:
            del outcome  # it holds the error, which holds this frame, which holds the batch

    async def _keep(self, reject: Reject, name: BatchName | None, body: bytes, received_at: datetime) -> None:
        await self._commit(reject.row(COLLECTOR, name, sha256(body).hexdigest(), received_at))
        self.rejects[reject.reason] += 1

    async def health(self, request: Request) -> Response:
        """GET /healthz."""
        return PlainTextResponse("ok\n")

    async def ready(self, request: Request) -> Response:
        """GET /readyz: 503 with the reason when a batch would not be stored."""
        if not self.writer.is_alive:
            return PlainTextResponse("stopping\n", 503)
        try:
            snapshot = await run_in_threadpool(self.warehouse.snapshot_id)
        except Exception as error:  # noqa: BLE001 - whatever keeps the warehouse from answering is the answer here
            return PlainTextResponse(f"the warehouse does not answer: {error}\n", 503)
        warning = None if self._tls is None else self._tls.warning(datetime.now(UTC))
        trouble = None if self.door.file is None else self.door.file.trouble
        care = [f"maintenance ({job}) fails: {error}" for job, error in dict(self.writer.care.failing).items()]
        said = [f"ready at snapshot {snapshot}", *(f"warning: {text}" for text in (warning, trouble, *care) if text is not None)]
        return PlainTextResponse("\n".join([*said, ""]))

    async def metrics(self, request: Request) -> Response:
        """GET /metrics."""
        stats = self.writer.stats
        values: dict[str, Value] = {
            "isochrone_batches": dict(self.batches),
            "isochrone_rows": dict(stats.rows),
            "isochrone_rejects": dict(self.rejects),
            "isochrone_commits": stats.commits,
            "isochrone_commit_seconds": stats.commit_seconds,
            "isochrone_last_commit_seconds": stats.last_commit_seconds,
            "isochrone_commit_failures": stats.failures,
            "isochrone_care_seconds": dict(self.writer.care.seconds),
            "isochrone_care_failures": dict(self.writer.care.failures),
            "isochrone_longest_care_step_seconds": self.writer.care.longest_s,
            "isochrone_queue_batches": self.writer.depth,
            "isochrone_queue_bytes": self.writer.waiting_bytes,
            "isochrone_received_bytes": self.received_bytes,
            "isochrone_enrolments": dict(self.door.outcomes),
        }
        if self._tls is not None:
            values["isochrone_certificate_expiry_timestamp_seconds"] = self._tls.expires_at.timestamp()
        if self.companion is not None:
            values |= self.companion.values()
        return Response(render(values), media_type=CONTENT_TYPE)


def _pass_on(loop: asyncio.AbstractEventLoop, outcome: asyncio.Future[Outcome], done: Future[Outcome]) -> None:
    """What became of a job, from the writer's thread to the loop, if that still runs.

    asyncio.wrap_future would leave both futures and their callbacks holding each other, some kB of every batch.
    """
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(_settle, outcome, done)


def _settle(outcome: asyncio.Future[Outcome], done: Future[Outcome]) -> None:
    if outcome.done():  # the request is gone
        return
    if (error := done.exception()) is None:
        outcome.set_result(done.result())
    else:
        outcome.set_exception(error)


def _too_slow() -> Refusal:
    return Refusal(
        408, "too_slow", f"the body comes at less than {BODY_LEAST_BYTES_PER_S} bytes/s; send smaller batches", Connection="close"
    )


def _busy() -> Refusal:
    return Refusal(429, "busy", "too many batches wait for their commit; come back", **{"Retry-After": "1"})


def _name(request: Request) -> BatchName:
    values = []
    for header, pattern in ((HEADER_AGENT, _AGENT), (HEADER_BOOT, _BOOT), (HEADER_SEQUENCE, _SEQUENCE)):
        value = request.headers.get(header, "")
        if not pattern.fullmatch(value):
            raise Unreadable("bad_header", f"header {header} is {value!r} and must match {pattern.pattern}")
        values.append(value)
    for header in (HEADER_SENT_AT, HEADER_CLOCK_SET):
        if (number := request.headers.get(header)) is not None and not NUMBER.fullmatch(number):
            raise Unreadable("bad_header", f"header {header} is {number!r} and must be a whole number of ns")
    return BatchName(values[0], values[1], int(values[2]))


def _read(body: bytes, encoding: str, name: BatchName, received_at: datetime, redate_ns: int) -> Batch:
    if encoding.strip().lower() in {"gzip", "x-gzip"}:
        body = decompress(body)
    elif encoding.strip().lower() not in {"", "identity"}:
        raise Unreadable("bad_encoding", f"Content-Encoding {encoding!r} is not gzip")
    if len(body) > MAX_BODY_BYTES:
        raise TooLarge(f"the batch is larger than {MAX_BODY_BYTES} bytes; send it in smaller ones")
    return parse(body, name, received_at=received_at, redate_ns=redate_ns)


_OPENAPI = (Path(__file__).parent / "openapi.json").read_bytes()


async def openapi(_: Request) -> Response:
    """GET /api/v1/openapi.json: what is described here, for programs."""
    return Response(_OPENAPI, media_type="application/json")


def make_app(
    location: str | Path | Warehouse,
    *,
    tokens: Mapping[str, str] | None,
    agent_sites: Mapping[str, str] | None = None,
    token_file: RosterFile | None = None,
    tls: Tls | None = None,
    publications: Publications | None = None,
    beside: Callable[[Warehouse], Companion] | None = None,
    commit_interval_s: float = 1.0,
) -> Starlette:
    """The collector over the warehouse at `location`, which is made where it is absent, when the application starts; or over
    one that is open for writing, which stays open.

    tokens       bearer token -> agent id; None, and no token_file: no token is asked for
    agent_sites  agent id -> the only site it may send from; agents not named here may use any
    token_file   instead of both: read again whenever it changes, and agents can enrol in it
    tls          the server's, whose expiry is told
    publications configurations that agents may have
    beside       makes what runs beside it over the same warehouse
    """
    door = Door(token_file if token_file is not None or tokens is None else fixed_roster(tokens, agent_sites or {}), publications)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        warehouse = location if isinstance(location, Warehouse) else await run_in_threadpool(open_warehouse, location, mode="write")
        companion = None if beside is None else beside(warehouse)
        collector = Collector(warehouse, door=door, tls=tls, companion=companion, commit_interval_s=commit_interval_s)
        app.state.collector = collector
        if companion is not None:
            companion.start()
        try:
            yield
        finally:
            if companion is not None:
                await run_in_threadpool(companion.stop)
            await run_in_threadpool(collector.writer.stop)
            collector.readers.shutdown()
            if warehouse is not location:
                warehouse.close()

    def of(method: str) -> object:
        async def endpoint(request: Request) -> Response:
            response: Response = await getattr(request.app.state.collector, method)(request)
            return response

        return endpoint

    return Starlette(
        routes=[
            Route("/api/v1/batches", of("post"), methods=["POST"]),  # type: ignore[arg-type]
            Route("/api/v1/enroll", door.enroll, methods=["POST"]),
            Route("/api/v1/rotate", door.rotate, methods=["POST"]),
            Route("/api/v1/identity", door.identity),
            Route("/api/v1/agents/{agent}/config", door.config),
            Route("/api/v1/openapi.json", openapi),
            Route("/healthz", of("health")),  # type: ignore[arg-type]
            Route("/readyz", of("ready")),  # type: ignore[arg-type]
            Route("/metrics", of("metrics")),  # type: ignore[arg-type]
        ],
        lifespan=lifespan,
    )
