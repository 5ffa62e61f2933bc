"""What an exchange asks of an HTTP version: bytes in, events out, bytes to send. No socket, no clock.

`probes.inference.http1` (h11) and `probes.inference.http2` (h2, imported only where it is spoken) implement it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Body", "End", "Head", "Wire", "WireError", "WireEvent"]


@dataclass(frozen=True, slots=True)
class Head:
    """The answer's status and those of its headers that matter, by lower-case name; never an informational (1xx) one."""

    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Body:
    """A piece of the answer's body, never empty."""

    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The answer is complete."""


WireEvent = Head | Body | End


class WireError(Exception):
    """The other end broke the protocol, or gave the request up; is_unheard: it says, or shows, that it never acted on it."""

    def __init__(self, text: str, *, is_unheard: bool = False) -> None:
        super().__init__(text)
        self.is_unheard = is_unheard


class Wire(Protocol):
    """One connection that carries requests one after the other.

    version        1.1 or 2
    is_uploaded    all of the request has been given out by `request` and `to_send`
    """

    version: str

    @property
    def is_uploaded(self) -> bool: ...

    def request(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
        """The bytes to send now. Raises WireError when there is something in it that cannot be sent."""
        ...

    def receive(self, data: bytes) -> Iterator[WireEvent]:
        """What a read brought, up to where it may raise WireError; empty data means that the other end closed."""
        ...

    def to_send(self) -> bytes:
        """What has to be sent after a read: acknowledgements, and more of the request where the other end held it up."""
        ...

    def renew(self, pending: bytes) -> bool:
        """Whether a further request can be made; `pending` is what came since the last one."""
        ...
