"""Where a one-shot measurement stands: all that its tables are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from probes.model import RoundUnderWay, Target, TraceUnderWay
from records.units import ms

if TYPE_CHECKING:
    from records.batch import Line

__all__ = ["State", "called", "ms_text"]


@dataclass(slots=True)
class State:
    """Of all targets together.

    targets    in the order a person gave them
    count      how many results each target will have
    results    what has ended
    running    what has not, of the probe types that can be watched
    hosts      target address -> numeric address, of names
    started_s  monotonic time at which a target's first measurement began
    ended      targets with nothing more to come
    """

    targets: Sequence[Target]
    count: int = 1
    results: dict[Target, list[Line]] = field(default_factory=dict)
    running: Sequence[RoundUnderWay | TraceUnderWay] = ()
    hosts: dict[str, str] = field(default_factory=dict)
    started_s: dict[Target, float] = field(default_factory=dict)
    now_s: float = 0.0
    is_over: bool = False

    @property
    def shown(self) -> list[Target]:
        """Every target once."""
        return list(dict.fromkeys(self.targets))

    @property
    def ended(self) -> set[Target]:
        """See above."""
        return {target for target, lines in self.results.items() if len(lines) >= self.count}


def called(target: Target) -> str:
    """What a person called it: several URLs may lead to one address."""
    return target.http_url or target.inference_url or target.metrics_url or target.address


def ms_text(value_ns: float | None) -> str | None:
    """Milliseconds to the microsecond; None stays unknown."""
    value = ms(value_ns)
    return None if value is None else f"{value:.3f}"
