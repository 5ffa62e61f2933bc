"""The ICMP echo engine: one long-lived socket per address family, kernel timestamps on both ends."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Sequence
from typing import Literal

from probes.ping.addresses import resolve
from probes.ping.engine import EchoEngine, gai_name, unsent
from probes.ping.icmp_socket import IcmpSocket, Requests
from probes.ping.opening import Mode
from probes.ping.session import Probe
from probes.ping.sockets import StampedSocket
from probes.ping.wire import FLOWS, MIN_PAYLOAD_BYTES, checksum_of
from records.errors import NotPermitted
from records.ping import PingSample

__all__ = ["IcmpEngine"]

#: A socket is read for so long after the last time-out, for late replies.
_LATE_NS = 1_000_000_000
_CHECKSUMS = [checksum_of(flow) for flow in range(FLOWS)]


class IcmpEngine(EchoEngine):
    """Pings any number of IPv4 and IPv6 targets at once.

    mode            None: a ping socket where net.ipv4.ping_group_range allows it, else a raw socket; or just one
    packets_per_s   the most it sends, over all targets
    """

    name = "isochrone-icmp/1"
    method: Literal["icmp"] = "icmp"
    flows = FLOWS

    def __init__(self, mode: Mode | None = None, *, packets_per_s: int = 10_000) -> None:
        super().__init__(packets_per_s=packets_per_s)
        self._mode = mode
        self._sockets: dict[int, IcmpSocket] = {}

    async def open(self) -> None:
        """Open a socket for each address family of this machine. Raises NotPermitted when none may be opened."""
        refused: NotPermitted | None = None
        for version in (4, 6):
            try:
                self._sockets[version] = IcmpSocket(version, 1 + int.from_bytes(os.urandom(4), "big") % 0xFFFF, self._mode)
            except NotPermitted as denied:
                refused = denied
            except OSError as missing:
                if missing.errno not in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}:
                    raise
        if not self._sockets:
            raise refused or NotPermitted("this machine has neither IPv4 nor IPv6")
        opened = ", ".join(f"IPv{version} {'ping' if one.mode == 'dgram' else 'raw'} socket" for version, one in self._sockets.items())
        self.why = f"own ICMP engine ({opened}; kernel timestamps)"
        self._start(*(one.fileno() for one in self._sockets.values()))

    async def ping(
        self, address: str, *, count: int, interval_ns: int, timeout_ns: int, payload_bytes: int, flow: int = 0
    ) -> tuple[PingSample, ...]:
        """See PingEngine."""
        try:
            version, host = await resolve(address)
        except socket.gaierror as unknown:
            return unsent(count, gai_name(unknown))
        if version not in self._sockets:
            return unsent(count, "EAFNOSUPPORT")
        to = self._sockets[version]
        to.longest_ns = max(to.longest_ns, timeout_ns)
        payload_bytes = max(payload_bytes, MIN_PAYLOAD_BYTES)
        return await self._run(
            host,
            count=count,
            interval_ns=interval_ns,
            timeout_ns=timeout_ns,
            payload_bytes=payload_bytes,
            flow=flow,
            requests=to.requests(host, payload_bytes, _CHECKSUMS[flow]),
        )

    async def close(self) -> None:
        """See PingEngine."""
        self._abandon()
        for one in self._sockets.values():
            one.close()
        self._sockets.clear()

    def _transmit(self, probe: Probe) -> None:
        of = probe.round
        host = of.peer
        assert isinstance(host, str), "the peer of an ICMP round is a numeric address"
        to = self._sockets[6 if ":" in host else 4]
        to.send(probe.number, probe.token, host, of.payload_bytes, _CHECKSUMS[of.flow], sent=probe)
        to.awaits_until_ns = probe.before.mono_ns + to.longest_ns + _LATE_NS

    def _transmit_together(self, probes: Sequence[Probe]) -> int:
        requests: Requests | None = probes[0].round.requests
        if requests is None:
            return 0
        taken = requests.by.send_together(probes)
        if taken:
            requests.by.awaits_until_ns = probes[0].before.mono_ns + requests.by.longest_ns + _LATE_NS
        return taken

    def _hand_over_all(self, probes: list[Probe]) -> None:
        """Those that the first one's socket sends leave together, then the others by theirs."""
        taken = self._transmit_together(probes)
        if taken:
            self._session.sent_all(probes[:taken] if taken < len(probes) else probes)
            probes = probes[taken:]
        if probes:
            sockets = {None if (requests := one.round.requests) is None else requests.by for one in probes}
            for by in sockets:
                super()._hand_over_all([one for one in probes if by is (one.round.requests and one.round.requests.by)])

    def _absorb(self) -> int:
        came = 0
        session = self._session
        now_ns = time.monotonic_ns()
        for one in self._sockets.values():
            if self._is_ticking and now_ns > one.awaits_until_ns:
                continue  # one address family may lie idle; what strays in can wait until the engine listens again
            answers, batches = one.read_many()
            came += len(answers)
            for answer in answers:
                error = answer.error
                if error is None:
                    session.reply(answer.token, answer.host, answer.received_ns, answer.picked_up, answer.ttl)
                else:
                    session.error(
                        token=answer.token,
                        number=answer.number,
                        peer=answer.host,
                        responder=error.responder,
                        icmp_type=error.icmp_type,
                        icmp_code=error.icmp_code,
                    )
            for picked_up, replies in batches:
                came += len(replies)
                session.replies(replies, picked_up)
        return came

    def _stamped(self) -> list[StampedSocket]:
        return [one.socket for one in self._sockets.values()]
