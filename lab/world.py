"""The lab as others use it: one interface, started fresh or attached to.

``start`` picks what this machine allows: network namespaces (as root, or inside a user namespace), else the
loopback lab. Both answer the same questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from lab.ports import INFERENCE_PORT, THROUGHPUT_PORT, UDP_ECHO_PORT
from lab.topology import Topology
from lab.truth import PairTruth
from records.errors import NotPermitted, UserError
from records.link import Medium

if TYPE_CHECKING:
    from lab.loopback import LoopbackLab
    from lab.namespace_lab import NamespaceLab

__all__ = ["INFERENCE_PORT", "THROUGHPUT_PORT", "UDP_ECHO_PORT", "Lab", "Mode", "PairTruth", "Progress", "attach", "find", "start"]

Mode = Literal["auto", "namespaces", "loopback"]
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


def start(
    topology: Topology,
    state_dir: Path | None = None,
    mode: Mode = "auto",
    progress: Progress | None = None,
    *,
    serving: bool = True,
    detached: bool = False,
) -> Lab:
    """Start a lab and return when its network carries packets and its inference servers answer.

    state_dir  where it keeps its state (None: one place per user); at most one lab lives in each
    mode       ``auto`` takes namespaces where they can be had, else the loopback lab, and says why
    progress   called with a line for people at every step
    serving    whether to start inference servers at the sites that serve
    detached   whether it lives on when this process ends
    Raises UserError when a lab already lives there, NotPermitted when `mode` cannot be had here.
    """
    from lab import namespaces

    say = progress or (lambda _line: None)
    before = find(state_dir)
    if before is not None and before.state.alive:
        raise UserError(f"a lab is already running in {before.state_dir}; end it with `isochrone lab down`, or give another --state-dir")
    if before is not None and before.kind == "loopback":
        before.stop()
        say("cleared away what a killed loopback lab had left")
    if mode != "loopback":
        support = namespaces.support()
        if support.how is not None:
            from lab.namespace_lab import start as start_namespaces

            return start_namespaces(topology, state_dir, support, say, serving=serving, detached=detached)
        if mode == "namespaces":
            raise NotPermitted(f"no network namespaces here: {support.reason}; or use --mode loopback")
        say(f"no network namespaces here: {support.reason}; taking the loopback lab")
    from lab import loopback
    from lab.state import default_state_dir

    return loopback.start(topology, state_dir or default_state_dir(), say, serving=serving, detached=detached)


def find(state_dir: Path | None = None) -> NamespaceLab | LoopbackLab | None:
    """The lab whose state a folder holds (None: this user's own place), alive or killed; None when there is none."""
    from lab.loopback import LoopbackLab, LoopbackState
    from lab.namespace_lab import NamespaceLab
    from lab.state import LabState, default_state_dir

    folder = (state_dir or default_state_dir()).absolute()
    state = LabState.read(folder)
    if state is not None:
        return NamespaceLab(state)
    other = LoopbackState.read(folder)
    return None if other is None else LoopbackLab(other, folder)


def attach(state_dir: Path | None = None) -> NamespaceLab | LoopbackLab:
    """The lab that lives in a state folder (None: this user's own place).

    Raises UserError when none is there, or when it was killed.
    """
    from lab.state import default_state_dir

    found = find(state_dir)
    folder = state_dir or default_state_dir()
    if found is None:
        raise UserError(f"no lab is running in {folder}; start one with `isochrone lab up world-24`")
    if not found.state.alive:
        raise UserError(f"the lab in {folder} was killed; clear it away with `isochrone lab down`")
    return found
