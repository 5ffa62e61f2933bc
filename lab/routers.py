"""One router as it is now: whether it speaks ICMP at all, and how many errors a second. Pure: time is passed in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from lab.topology import Router
from records.errors import UserError
from records.units import SECOND

__all__ = ["RouterChange", "RouterCounters", "RouterState"]


@dataclass(slots=True)
class RouterCounters:
    """ICMP messages since the start: sent, and withheld by the rate limit or because the router is silent."""

    sent: int = 0
    withheld: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterChange:
    """A change to a router while the lab runs.

    op  ``set`` sets the given values and leaves those that are None as they are, ``restore`` brings back what the
        topology says
    """

    op: Literal["set", "restore"]
    silent: bool | None = None
    icmp_per_s: int | None = None

    def __post_init__(self) -> None:
        given = self.silent is not None or self.icmp_per_s is not None
        if self.op not in ("set", "restore"):
            raise UserError(f"cannot {self.op!r} a router; there are set and restore")
        if given != (self.op == "set"):
            raise UserError(
                "restore takes no values; only set does" if given else "set changes nothing; give silent or a limit of ICMP errors"
            )
        if self.icmp_per_s is not None and self.icmp_per_s < 1:
            raise UserError(f"a limit of {self.icmp_per_s} ICMP errors per second is out of range; at least 1, or make the router silent")


class RouterState:
    """One router as it is now; `configured` is what the topology says.

    The limit is a token bucket that holds a tenth of a second's errors, and at least one.
    """

    __slots__ = ("_credit_ns", "_since_ns", "configured", "counters", "icmp_per_s", "silent")

    def __init__(self, configured: Router) -> None:
        self.configured = configured
        self.counters = RouterCounters()
        self.silent, self.icmp_per_s = configured.silent, configured.icmp_per_s
        self._since_ns: int | None = None
        self._credit_ns = 0

    def change(self, change: RouterChange) -> None:
        """Apply a change."""
        if change.op == "restore":
            self.silent, self.icmp_per_s = self.configured.silent, self.configured.icmp_per_s
        else:
            self.silent = self.silent if change.silent is None else change.silent
            self.icmp_per_s = self.icmp_per_s if change.icmp_per_s is None else change.icmp_per_s
        self._since_ns = None

    def current(self) -> Router:
        """The router as it is now."""
        return replace(self.configured, silent=self.silent, icmp_per_s=self.icmp_per_s)

    def may_send_error(self, at_ns: int) -> bool:
        """Whether it sends one more ICMP error at a time; counts it either way. Times must not go back."""
        if self.silent or (self.icmp_per_s is not None and not self._take(at_ns, self.icmp_per_s)):
            self.counters.withheld += 1
            return False
        self.counters.sent += 1
        return True

    def may_reply(self) -> bool:
        """Whether it answers an echo request; counts it either way."""
        if self.silent:
            self.counters.withheld += 1
        else:
            self.counters.sent += 1
        return not self.silent

    def _take(self, at_ns: int, per_s: int) -> bool:
        cost_ns = SECOND // per_s
        depth_ns = max(SECOND // 10, cost_ns)
        passed_ns = depth_ns if self._since_ns is None else at_ns - self._since_ns
        self._since_ns = at_ns
        self._credit_ns = min(depth_ns, self._credit_ns + passed_ns)
        if self._credit_ns < cost_ns:
            return False
        self._credit_ns -= cost_ns
        return True
