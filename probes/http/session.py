"""The life of one connection: which phase it is in, when each began and ended, what the answer was. No socket, no clock.

A visit goes through dns, tcp, tls and http in this order; those not asked for are left out. In each it may fail, and
then it is over: the first failure stays, the phases that ended before it keep their times.

::

    (new) --begin--> phase --end--> (between) --begin--> next phase ... --> report()
                       |
                       +--fail--> (failed) --> report()

`begin` of the same phase or an earlier one starts it afresh and forgets those that follow it: a second address that is
tried, or a second connection after a certificate that was not accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

import h11

from probes.http.failure import Failure
from records.measurement import FailureSource, HttpOutcome, HttpPhase

__all__ = ["Answer", "Report", "Visit"]

_ORDER: tuple[HttpPhase, ...] = ("dns", "tcp", "tls", "http")


class Report(TypedDict):
    """What a visit says of its phases; the fields are those of records.measurement.HttpResult."""

    outcome: HttpOutcome
    failed_phase: HttpPhase | None
    failure_source: FailureSource | None
    error: str | None
    dns_ns: int | None
    tcp_ns: int | None
    tls_ns: int | None
    http_status: int | None
    upload_ns: int | None
    ttfb_ns: int | None
    e2e_ns: int | None
    request_bytes: int | None
    response_bytes: int | None
    is_cut_off: bool | None
    total_ns: int | None


@dataclass(slots=True)
class _Span:
    began_ns: int
    ended_ns: int | None = None

    @property
    def took_ns(self) -> int | None:
        return None if self.ended_ns is None else self.ended_ns - self.began_ns


class Answer:
    """One request and its answer over HTTP/1.1, read by h11 and timed; finished at its end, at the limit of bytes, or broken.

    max_bytes  of the answer, head included, after which reading stops
    """

    def __init__(self, *, method: str, path: str, headers: Mapping[str, str], max_bytes: int) -> None:
        self._http = h11.Connection(h11.CLIENT)
        self._max = max_bytes
        self.request = (self._http.send(h11.Request(method=method, target=path, headers=list(headers.items()))) or b"") + (
            self._http.send(h11.EndOfMessage()) or b""
        )
        self.status: int | None = None
        self.bytes = 0
        self.first_byte_ns: int | None = None
        self.last_byte_ns: int | None = None
        self.is_cut_off = False
        self.is_finished = False
        self.problem: str | None = None

    def receive(self, data: bytes, now_ns: int) -> None:
        """Take one read from the connection; empty means that the other end closed it."""
        if self.is_finished:
            return
        if data:
            self.first_byte_ns = self.first_byte_ns if self.first_byte_ns is not None else now_ns
            self.last_byte_ns = now_ns
            self.bytes += len(data)
        try:
            self._http.receive_data(data)
            while not self.is_finished and self._step(self._http.next_event()):
                pass
        except h11.RemoteProtocolError as error:
            closed_early = not data and self.bytes == 0
            self._stop("the server closed the connection without an answer" if closed_early else f"broken HTTP: {error}")
        if not self.is_finished and self.bytes >= self._max:
            self.is_cut_off = True
            self._stop(None if self.status is not None else f"no HTTP status within the first {self._max} bytes")

    def _step(self, event: object) -> bool:
        """Act on one h11 event; whether there may be another one."""
        if isinstance(event, h11.InformationalResponse):
            return True
        if isinstance(event, h11.Response):
            self.status = event.status_code
            return True
        if isinstance(event, h11.Data):
            return True
        if isinstance(event, h11.EndOfMessage):
            self._stop(None)
        elif isinstance(event, h11.ConnectionClosed):
            self._stop("the server closed the connection without an answer")
        return False

    def _stop(self, problem: str | None) -> None:
        self.problem = problem
        self.is_finished = True


class Visit:
    """See the module's text. Times are of one monotonic clock, in ns."""

    def __init__(self, now_ns: int) -> None:
        self._started_ns = now_ns
        self._last_ns = now_ns
        self._spans: dict[HttpPhase, _Span] = {}
        self._phase: HttpPhase | None = None
        self._uploaded_ns: int | None = None
        self.failure: Failure | None = None
        self.answer: Answer | None = None

    @property
    def phase(self) -> HttpPhase | None:
        """The phase that is under way."""
        return self._phase

    def begin(self, phase: HttpPhase, now_ns: int) -> None:
        """A phase starts, or starts again."""
        if self._phase is not None and _ORDER.index(phase) > _ORDER.index(self._phase):
            raise RuntimeError(f"{phase} begins while {self._phase} is under way")
        for later in _ORDER[_ORDER.index(phase) :]:
            self._spans.pop(later, None)
        self._spans[phase] = _Span(now_ns)
        self._phase = phase
        self._last_ns = now_ns

    def end(self, now_ns: int) -> None:
        """The phase under way has done what it is for."""
        if self._phase is None:
            raise RuntimeError("no phase is under way")
        self._spans[self._phase].ended_ns = self._last_ns = now_ns
        self._phase = None

    def fail(self, failure: Failure, now_ns: int) -> None:
        """The visit is over; the first reason stays."""
        self.failure = self.failure or failure
        self._phase = None
        self._last_ns = now_ns

    def ask(self, answer: Answer, now_ns: int) -> None:
        """The request's first byte is about to be handed to the kernel: the phase http starts, and its time zero."""
        self.begin("http", now_ns)
        self.answer = answer

    def uploaded(self, now_ns: int) -> None:
        """The kernel has taken the request's last byte."""
        self._uploaded_ns = now_ns

    def receive(self, data: bytes, now_ns: int) -> bool:
        """Take one read of the answer; whether more is wanted."""
        assert self.answer is not None
        self.answer.receive(data, now_ns)
        if not self.answer.is_finished:
            return True
        if self.answer.problem is None:
            self.end(now_ns)
        else:
            self.fail(Failure(outcome="protocol_error", phase="http", source="target", error=self.answer.problem), now_ns)
        return False

    def report(self) -> Report:
        """What is known now. A visit that is neither failed nor between two phases was given up: RuntimeError."""
        if self._phase is not None:
            raise RuntimeError(f"{self._phase} is still under way")
        failed, answer, http = self.failure, self.answer, self._spans.get("http")

        def since_asked(at_ns: int | None) -> int | None:
            return None if at_ns is None or http is None else at_ns - http.began_ns

        def took(phase: HttpPhase) -> int | None:
            span = self._spans.get(phase)
            return None if span is None else span.took_ns

        came = answer is not None and answer.bytes > 0
        return {
            "outcome": failed.outcome if failed else "ok",
            "failed_phase": failed.phase if failed else None,
            "failure_source": failed.source if failed else None,
            "error": failed.error if failed else None,
            "dns_ns": took("dns"),
            "tcp_ns": took("tcp"),
            "tls_ns": took("tls"),
            "http_status": answer.status if answer else None,
            "upload_ns": since_asked(self._uploaded_ns),
            "ttfb_ns": since_asked(answer.first_byte_ns) if answer else None,
            "e2e_ns": since_asked(answer.last_byte_ns) if answer and not failed else None,
            "request_bytes": len(answer.request) if answer else None,
            "response_bytes": answer.bytes if answer and came else None,
            "is_cut_off": answer.is_cut_off if answer and came else None,
            "total_ns": self._last_ns - self._started_ns,
        }
