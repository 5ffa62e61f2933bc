"""What a transport is to the engine: it sends probe packets with a TTL of their own and says what was heard of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from probes.ping.timing import Reading, Sent
from probes.ping.wire import UNREACHABLE

__all__ = ["Heard", "Transport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """An answer to a probe packet.

    host        where the probe packet was going
    number      its 16-bit number, None where the transport cannot say; then `token` is there
    token       its token, None where the quote is too short
    responder   who answered
    icmp_type, icmp_code   of an error or echo reply; None for what else the target sends
    is_reply    the target's own regular answer (echo reply, UDP datagram, SYN and ACK, RST)
    """

    host: str
    number: int | None
    token: int | None
    responder: str
    is_reply: bool
    received_ns: int | None
    picked_up: Reading
    icmp_type: int | None = None
    icmp_code: int | None = None
    ttl: int | None = None
    extension: bytes = b""

    @property
    def is_unreachable(self) -> bool:
        """An ICMP error that says the way ends here, from whomever."""
        return not self.is_reply and self.icmp_type == UNREACHABLE[6 if ":" in self.host else 4]


class Transport(Protocol):
    """One address family of one protocol."""

    @property
    def describes(self) -> str: ...

    def fileno(self) -> tuple[int, ...]: ...

    def prepare(self, flow: int) -> None:
        """Take what a flow needs of this host before its first packet. Raises OSError when there is none left."""
        ...

    def send(self, host: str, ttl: int, flow: int, number: int, token: int) -> Sent:
        """Hand over one probe packet; BlockingIOError without room, OSError when refused."""
        ...

    def read(self) -> Iterator[Heard]: ...

    def marks(self) -> tuple[tuple[int, int], ...]:
        """What its packets bear: (IP protocol, ICMP identifier or source port). Raises OSError when there is none yet."""
        ...

    def close(self) -> None: ...
