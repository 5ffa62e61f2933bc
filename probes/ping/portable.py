"""icmplib behind the engines' interface: for systems without Linux's kernel timestamps, marked as less exact.

icmplib has one socket per target and times in user space. With many at once its figures are the scheduler's, so at
most MAX_AT_ONCE run together and every sample says ``user``. Its sockets are connected, so that the kernel drops
replies of other hosts, which icmplib does not look at; and the RTT is taken from the monotonic clock, because
icmplib's own is the difference of two wall clock readings.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
import time
from typing import Literal

import icmplib

from probes.ping.addresses import resolve
from probes.ping.engine import gai_name, unsent
from probes.ping.opening import GRANT_ICMP
from records.errors import NotPermitted
from records.ping import PingSample

__all__ = ["MAX_AT_ONCE", "IcmplibEngine"]

MAX_AT_ONCE = 50


class IcmplibEngine:
    """The portable ICMP engine."""

    name = f"icmplib/{icmplib.__version__}"
    method: Literal["icmp"] = "icmp"
    why = ""
    flows = 1

    def __init__(self) -> None:
        self._is_privileged = False
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)

    async def open(self) -> None:
        """Find out whether ping sockets are allowed. Raises NotPermitted when neither they nor raw ones are."""
        for is_privileged in (False, True):
            try:
                icmplib.ICMPv4Socket(privileged=is_privileged).close()
            except icmplib.SocketPermissionError:
                continue
            self._is_privileged = is_privileged
            self.why = f"icmplib ({'raw' if is_privileged else 'ping'} sockets; user-space clock, at most {MAX_AT_ONCE} targets at once)"
            return
        raise NotPermitted(f"icmplib may open no ICMP socket; {GRANT_ICMP}")

    async def ping(
        self, address: str, *, count: int, interval_ns: int, timeout_ns: int, payload_bytes: int, flow: int = 0
    ) -> tuple[PingSample, ...]:
        """See PingEngine. Packets go one after the other: a lost one delays the next by the time-out."""
        try:
            version, host = await resolve(address)
        except socket.gaierror as unknown:
            return unsent(count, gai_name(unknown))
        async with self._slots:
            try:
                kind = icmplib.ICMPv4Socket if version == 4 else icmplib.ICMPv6Socket
                with icmplib.AsyncSocket(kind(privileged=self._is_privileged)) as sock:
                    sock.sock.connect((host, 0))
                    return await self._round(sock, host, count, interval_ns, timeout_ns, payload_bytes)
            except OSError as refused:
                return unsent(count, errno.errorcode.get(refused.errno or 0, str(refused)))
            except icmplib.SocketPermissionError:
                return unsent(count, "EPERM")
            except icmplib.ICMPSocketError:
                return unsent(count, "EAFNOSUPPORT")

    def under_way(self) -> tuple[()]:
        """None can be shown: icmplib says nothing before a round is over."""
        return ()

    async def close(self) -> None:
        """Nothing is held between rounds."""

    async def _round(
        self, sock: icmplib.AsyncSocket, host: str, count: int, interval_ns: int, timeout_ns: int, payload_bytes: int
    ) -> tuple[PingSample, ...]:
        samples: list[PingSample] = []
        identifier = secrets.randbits(16)
        due_ns = time.monotonic_ns()
        for sequence in range(count):
            await asyncio.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
            request = icmplib.ICMPRequest(host, identifier, sequence, payload=secrets.token_bytes(payload_bytes))
            sent_at_ns, before_ns = time.time_ns(), time.monotonic_ns()
            due_ns = before_ns + interval_ns
            try:
                sock.send(request)
                reply = await sock.receive(request, timeout_ns / 1e9)
            except icmplib.TimeoutExceeded:
                samples.append(PingSample(sequence=sequence, sent_at_ns=sent_at_ns, outcome="timeout", failure_source="path"))
                continue
            except icmplib.ICMPLibError as refused:
                samples.append(_refusal(refused, sequence, sent_at_ns))
                continue
            rtt_ns = time.monotonic_ns() - before_ns
            if reply.type != (0 if ":" not in host else 129):
                samples.append(
                    PingSample(sequence=sequence, sent_at_ns=sent_at_ns, outcome="unreachable", icmp_type=reply.type, icmp_code=reply.code)
                )
            elif rtt_ns > timeout_ns:
                samples.append(PingSample(sequence=sequence, sent_at_ns=sent_at_ns, outcome="timeout", late=True, failure_source="path"))
            else:
                samples.append(PingSample(sequence=sequence, sent_at_ns=sent_at_ns, outcome="reply", rtt_ns=rtt_ns, ts_source="user"))
        return tuple(samples)


def _refusal(refused: icmplib.ICMPLibError, sequence: int, sent_at_ns: int) -> PingSample:
    """A failed send, or an ICMP error that the kernel reported on the connected socket; icmplib keeps the cause."""
    cause = refused.__cause__ or refused.__context__
    number = cause.errno if isinstance(cause, OSError) else None
    if number in {errno.ECONNREFUSED, errno.EHOSTUNREACH}:
        return PingSample(sequence=sequence, sent_at_ns=sent_at_ns, outcome="unreachable")
    return PingSample(sequence=sequence, sent_at_ns=sent_at_ns, outcome="send_failed", error=errno.errorcode.get(number or 0, str(refused)))
