"""The lab as others use it: one interface, started fresh or attached to.

``start`` picks what this machine allows: network namespaces (as root, or inside a user namespace), else the
loopback lab. Both answer the same questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from lab.topology import Topology
from lab.truth import PairTruth
from records.link import Medium

__all__ = ["INFERENCE_PORT", "THROUGHPUT_PORT", "UDP_ECHO_PORT", "Lab", "Mode", "PairTruth"]

Mode = Literal["auto", "namespaces", "loopback"]

INFERENCE_PORT = 8080
THROUGHPUT_PORT = 5201
UDP_ECHO_PORT = 8622

Progress = Callable[[str], None]


class Lab(Protocol):
    """A running lab."""

    kind: Literal["namespaces", "loopback"]
    topology: Topology
    state_dir: Path

    def command(self, site: str, argv: Sequence[str]) -> list[str]:
        """The argument list that runs `argv` at a site; raises UnknownSite."""
        ...

    def address(self, src: str, dst: str, medium: Medium = "internet") -> str | None:
        """Where src reaches dst over a medium; None when that medium does not join them. Raises UnknownSite."""
        ...

    def media(self, src: str, dst: str) -> tuple[Medium, ...]:
        """The media over which src reaches dst."""
        ...

    def inference_url(self, src: str, dst: str, medium: Medium = "internet") -> str | None:
        """Base URL of the inference API of dst as src reaches it; None when dst does not serve or is not reached."""
        ...

    def truth(self) -> list[PairTruth]:
        """What every pair must measure over every medium, with the changes made so far."""
        ...

    def stop(self) -> None:
        """End every process and namespace of the lab; doing it twice is fine."""
        ...
