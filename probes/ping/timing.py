"""How a round-trip time is read off the stamps of a probe packet and its reply. Pure: stamps are arguments.

The kernel stamps packets with the wall clock (CLOCK_REALTIME), which may be stepped under our feet; the program
reads the monotonic clock, which never steps but runs late when the processor is busy. Both are read together
before the packet is handed over and when its reply is picked up. The rules, first match wins:

1. Wall and monotonic clock moved apart between the two readings by more than STEP_TOLERANCE_NS and what the readings
   themselves leave open: the wall clock was stepped. The RTT is the difference of the monotonic readings, ``user``.
2. Both kernel stamps are there, and their difference is neither negative nor longer than the monotonic readings
   allow: the RTT is that difference, ``kernel_txrx``.
3. The receive stamp is there and lies within the same bounds after the reading taken before the send: ``kernel_rx``.
4. Otherwise the difference of the monotonic readings, ``user``.

NTP's slewing turns both clocks alike on Linux, so rule 1 sees steps only.
"""

from __future__ import annotations

from dataclasses import dataclass

from records.words import TsSource

__all__ = ["STEP_TOLERANCE_NS", "Reading", "Sent", "longest_ns", "round_trip"]

#: Both clocks tick alike, but for rounding; beyond this and what two readings leave open, one was set.
STEP_TOLERANCE_NS = 2_000
#: One call that hands packets to the kernel takes no longer.
_LONGEST_CALL_NS = 20_000_000


@dataclass(slots=True)
class Reading:
    """Monotonic and wall clock read at the same moment, ns; never changed once made.

    apart_ns   how far apart the two may have been read: the scheduler can come between them
    """

    mono_ns: int
    real_ns: int
    apart_ns: int = 0

    def later(self, mono_ns: int) -> Reading:
        """What both clocks said at `mono_ns` of the monotonic one, if the wall clock was not set since this reading."""
        return Reading(mono_ns, self.real_ns + mono_ns - self.mono_ns, self.apart_ns)


@dataclass(slots=True, eq=False)
class Sent:
    """A packet handed to the kernel: clocks just before the call, and the kernel's own stamp once it is known."""

    before: Reading
    kernel_ns: int | None = None

    @property
    def sent_at_ns(self) -> int:
        """Unix time of the departure, the best known."""
        return self.before.real_ns if self.kernel_ns is None else self.kernel_ns

    def left_after(self, stamp_ns: int) -> None:
        """It has no stamp of its own, and left after another packet that the same call handed over: no earlier than that one's stamp."""
        apart_ns = stamp_ns - self.before.real_ns
        if 0 < apart_ns < _LONGEST_CALL_NS:  # else the wall clock was set in between
            self.before = self.before.later(self.before.mono_ns + apart_ns)


def longest_ns(before: Reading, picked_up: Reading) -> int:
    """The longest round trip that stamps between these readings may tell; -1 when they may tell none, because the wall clock was set."""
    user_ns = picked_up.mono_ns - before.mono_ns
    drift_ns = picked_up.real_ns - before.real_ns - user_ns
    tolerance_ns = STEP_TOLERANCE_NS + before.apart_ns + picked_up.apart_ns
    return max(user_ns, 0) + tolerance_ns if -tolerance_ns <= drift_ns <= tolerance_ns else -1


def round_trip(sent: Sent, received_ns: int | None, picked_up: Reading) -> tuple[int, TsSource]:
    """RTT in ns and how it was timed.

    received_ns   the kernel's stamp of the reply, None where it gave none
    picked_up     the clocks when the program had the reply in hand
    """
    before, sent_ns = sent.before, sent.kernel_ns
    if received_ns is not None:
        most_ns = longest_ns(before, picked_up)
        if sent_ns is not None and 0 <= received_ns - sent_ns <= most_ns:
            return received_ns - sent_ns, "kernel_txrx"
        if 0 <= received_ns - before.real_ns <= most_ns:
            return received_ns - before.real_ns, "kernel_rx"
    return max(0, picked_up.mono_ns - before.mono_ns), "user"
