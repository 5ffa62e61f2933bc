"""Which TTL to ask next and when a trace ends: pure rules over one trace; time is an argument, order the caller's.

1. At first the TTLs 1 .. W are asked all at once; W is the distance found last time, or FIRST_WINDOW where that time the target
   was not reached, and never more than `max_ttl`.
2. A TTL that stays silent is asked again after a *patience*, until it was asked `attempts` times. Patience is the
   time-out, or, as soon as any hop has answered, three times the longest RTT seen on this path, at least
   MIN_PATIENCE_NS and at most the time-out. An answer to an earlier packet still counts while the trace runs.
3. The path ends at the least TTL at which the target itself answered; while it has not, at the least TTL at which a
   router sent an unreachable error. TTLs behind the end are neither asked nor reported.
4. While no end is known, the window grows by WINDOW_STEP, up to `max_ttl`: as soon as its last TTL is answered (the
   path goes on), or when every TTL in it is settled, unless its last GAP_LIMIT TTLs were all silent (fewer are no gap: the path
   may have grown behind routers that are silent).
5. A TTL is settled when it is answered, or when it was asked `attempts` times and the last packet is older than the
   patience (the full time-out as long as no end is known: a far target must not be given up for near routers' sake).
6. The trace is done when every TTL up to its end, or without one every TTL of a window that may not grow, is settled.
7. A packet that our own kernel refuses for good (no route, a firewall) ends the trace at once: there is no path to
   see. Hops that have answered are kept.
8. Routers limit how many ICMP errors they send. A TTL that stays silent, while the router behind the same neighbour
   answers other traces (`Limited` knows), is behind such a limit: it is asked up to LIMITED_ATTEMPTS times more, each
   time after twice the patience of the time before, from what rule 9 leaves when every TTL that may still have to be asked
   `attempts` times is. A router that answers nobody is not asked again.
9. A trace sends `max_ttl` times `attempts` packets at most: that is what it is charged against the agent's limits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from records.hop import Hop, MplsLabel
from records.words import TsSource

__all__ = ["FIRST_WINDOW", "GAP_LIMIT", "LIMITED_ATTEMPTS", "MIN_PATIENCE_NS", "WINDOW_STEP", "HopAnswer", "Limited", "Trace"]

FIRST_WINDOW = 16
WINDOW_STEP = 8
GAP_LIMIT = 8
#: Routers answer late, from a slow processor: less patience would ask again for nothing.
MIN_PATIENCE_NS = 250_000_000
LIMITED_ATTEMPTS = 5

#: (TTL, address of the hop before it; None for TTL 1) -> whether the router there answered another trace of late.
Limited = Callable[[int, str | None], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class HopAnswer:
    """What came back for one probe packet.

    is_target   the target itself answered
    is_end      an unreachable error: nothing lies behind this hop
    """

    address: str
    rtt_ns: int
    ts_source: TsSource
    is_target: bool = False
    is_end: bool = False
    icmp_type: int | None = None
    icmp_code: int | None = None
    reply_ttl: int | None = None
    mpls: tuple[MplsLabel, ...] = ()


@dataclass(slots=True)
class _Ttl:
    wanted: int = 0
    sent: int = 0
    replies: int = 0
    last_sent_ns: int = 0
    answer: HopAnswer | None = None


@dataclass(slots=True)
class Trace:
    """One trace of one flow to one target, under way.

    last_distance   hop count found by the round before; None when there was none
    limited         see rule 8
    spread          what the waits of rule 8 are multiplied by, around 1: traces that lost together must not ask together
    """

    max_ttl: int
    timeout_ns: int
    attempts: int
    last_distance: int | None = None
    limited: Limited = lambda _ttl, _before: False
    spread: float = 1.0
    window: int = 0
    longest_rtt_ns: int | None = None
    is_refused: bool = False
    _target_ttl: int | None = None
    _error_ttl: int | None = None
    _ttls: dict[int, _Ttl] = field(default_factory=dict)
    _total: int = 0

    @property
    def reached(self) -> bool:
        """The target itself answered."""
        return self._target_ttl is not None

    @property
    def end(self) -> int | None:
        """Rule 3; None while it is not known."""
        return self._error_ttl if self._target_ttl is None else self._target_ttl

    def wanted(self, now_ns: int) -> list[int]:
        """TTLs to ask now, each for one packet; the caller sends them in an order of its own and reports `sent`, `skipped` or `refused`."""
        if not self.window:
            return self._grow(FIRST_WINDOW if self.last_distance is None else self.last_distance)
        out = []
        for ttl, state in self._asked():
            unanswered = state.answer is None and state.wanted == state.sent and self._may_ask(ttl, state)
            if unanswered and now_ns >= state.last_sent_ns + self._wait_ns(state):
                state.wanted += 1
                self._total += 1
                out.append(ttl)
        if self.end is None and self.window < self.max_ttl and self._may_grow(now_ns):
            out += self._grow(self.window + WINDOW_STEP)
        return out

    def is_wanted(self, ttl: int) -> bool:
        """Whether a packet planned for this TTL is still worth sending: the end may have become known meanwhile."""
        return not self.is_refused and not self._ttls[ttl].replies and (self.end is None or ttl <= self.end)

    def awaits(self, ttl: int, now_ns: int) -> bool:
        """Whether what is at this TTL may still show itself: it is to be asked, or was asked less than the patience ago."""
        state = self._ttls.get(ttl)
        if state is None or state.answer is not None:
            return False
        return state.wanted > state.sent or now_ns < state.last_sent_ns + self._patience_ns()

    def skipped(self, ttl: int) -> None:
        """A planned packet was not sent after all, because it is no longer wanted."""
        self._ttls[ttl].wanted -= 1
        self._total -= 1

    def sent(self, ttl: int, now_ns: int) -> None:
        """A packet with this TTL was handed to the kernel."""
        state = self._ttls[ttl]
        state.sent += 1
        state.last_sent_ns = now_ns

    def refused(self) -> None:
        """Rule 7."""
        self.is_refused = True

    def before(self, ttl: int) -> tuple[bool, str | None]:
        """Whether it is known who is one TTL nearer, and who; nobody for TTL 1."""
        if ttl == 1:
            return True, None
        answer = self._ttls[ttl - 1].answer
        return answer is not None, None if answer is None else answer.address

    def is_router(self, ttl: int) -> bool:
        """Whether a router on the way answered at this TTL."""
        state = self._ttls.get(ttl)
        return state is not None and state.answer is not None and not state.answer.is_target

    def answered(self, ttl: int, answer: HopAnswer) -> None:
        """An answer to a packet with this TTL came in. One later than the time-out changes nothing."""
        if answer.rtt_ns > self.timeout_ns:
            return
        state = self._ttls[ttl]
        state.replies += 1
        self.longest_rtt_ns = max(answer.rtt_ns, self.longest_rtt_ns or 0)
        if state.answer is None:
            state.answer = answer
        if answer.is_target:
            self._target_ttl = min(ttl, self._target_ttl or ttl)
        elif answer.is_end:
            self._error_ttl = min(ttl, self._error_ttl or ttl)

    def done(self, now_ns: int) -> bool:
        """Rules 6 and 7."""
        if self.is_refused:
            return True
        if not self.window or not all(self._is_settled(ttl, state, now_ns) for ttl, state in self._asked()):
            return False
        return self.end is not None or self.window >= self.max_ttl or not self._may_grow(now_ns)

    def next_ns(self, now_ns: int) -> int | None:
        """When the passing of time alone will change something, after `now_ns`; None: only a packet sent or heard will."""
        times = []
        for ttl, state in self._asked():
            if state.answer is None and state.wanted == state.sent:
                wait_ns = self._wait_ns(state) if self._may_ask(ttl, state) else self._last_patience_ns()
                times.append(state.last_sent_ns + wait_ns)
        return min((at_ns for at_ns in times if at_ns > now_ns), default=None)

    def hops(self) -> tuple[Hop, ...]:
        """The path: every TTL from 1 to the end, or to the last one asked; silent ones included."""
        asked = [(ttl, state) for ttl, state in self._asked() if state.answer is not None or not self.is_refused]
        return tuple(_hop(ttl, state) for ttl, state in asked)

    def _asked(self) -> Iterator[tuple[int, _Ttl]]:
        last = self.window if self.end is None else self.end
        return ((ttl, self._ttls[ttl]) for ttl in range(1, last + 1))

    def _grow(self, window: int) -> list[int]:
        old, self.window = self.window, min(window, self.max_ttl)
        new = list(range(old + 1, self.window + 1))
        for ttl in new:
            self._ttls[ttl] = _Ttl(wanted=1)
        self._total += len(new)
        return new

    def _may_grow(self, now_ns: int) -> bool:
        if self._ttls[self.window].answer is not None:
            return True
        if not all(self._is_settled(ttl, state, now_ns) for ttl, state in self._asked()):
            return False
        last = range(self.window - GAP_LIMIT + 1, self.window + 1)
        return self.window < GAP_LIMIT or any(self._ttls[ttl].answer is not None for ttl in last)

    def _is_settled(self, ttl: int, state: _Ttl, now_ns: int) -> bool:
        if state.answer is not None:
            return True
        if state.sent != state.wanted or now_ns < state.last_sent_ns + self._last_patience_ns():
            return False
        return not self._may_ask(ttl, state)

    def _may_ask(self, ttl: int, state: _Ttl) -> bool:
        """Rules 2, 8 and 9: whether a silent TTL may be asked once more."""
        left = self.max_ttl * self.attempts - self._total
        if state.wanted < self.attempts:
            return left > 0
        if state.wanted >= self.attempts + LIMITED_ATTEMPTS or left <= 0:
            return False
        is_known, before = self.before(ttl)
        return is_known and self.limited(ttl, before) and left > self._kept_back()

    def _kept_back(self) -> int:
        """Packets that rules 2 and 4 may still ask for."""
        again = sum(self.attempts - state.wanted for _, state in self._asked() if state.answer is None and state.wanted < self.attempts)
        return again + (0 if self.end is not None else (self.max_ttl - self.window) * self.attempts)

    def _wait_ns(self, state: _Ttl) -> int:
        """From the last packet of a silent TTL to the next one."""
        again = state.wanted - self.attempts
        return self._patience_ns() if again < 0 else round((self._patience_ns() << again) * self.spread)

    def _patience_ns(self) -> int:
        if self.longest_rtt_ns is None:
            return self.timeout_ns
        return min(self.timeout_ns, max(MIN_PATIENCE_NS, 3 * self.longest_rtt_ns))

    def _last_patience_ns(self) -> int:
        return self.timeout_ns if self.end is None else self._patience_ns()


def _hop(ttl: int, state: _Ttl) -> Hop:
    answer = state.answer
    if answer is None:
        return Hop(ttl=ttl, address=None, rtt_ns=None, probes=state.sent)
    return Hop(
        ttl=ttl,
        address=answer.address,
        rtt_ns=answer.rtt_ns,
        probes=state.sent,
        replies=min(state.replies, state.sent),
        ts_source=answer.ts_source,
        icmp_type=answer.icmp_type,
        icmp_code=answer.icmp_code,
        reply_ttl=answer.reply_ttl,
        mpls=answer.mpls,
    )
