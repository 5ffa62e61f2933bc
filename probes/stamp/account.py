"""What the numbers and times of a round's replies say: loss by direction, one-way delays, delay variation. Pure.

Loss by direction. A stateful reflector gives the replies of a session the numbers 0, 1, 2, ... whether they arrive or not. So of
the packets up to the newest one that was answered, those whose reply number never came were lost on the way back, and the other
missing ones on the way there. What was sent after the newest answered packet is lost in a direction that nothing tells.

That holds as long as packets reach the reflector in their order. Two that changed places between the first and the newest do no harm: as
many numbers belong to as many packets. At the ends they do; so an end is an answered packet that came in its place, which cannot have
changed it with a neighbour either whose reply was lost. What is lost beyond has no direction.

A stateless reflector copies our numbers, which looks like a stateful one behind a way there that loses nothing. Only a number that
differs from ours proves that a reflector counts; until one does, no direction is claimed (but a round without any loss has none).

One-way delays are T2 - T1 and T4 - T3, off by the difference of the clocks. Their differences within a round are not (the clocks'
drift over a round of seconds is below a us): the delay variation (PDV of RFC 5481, from the least; IPDV of RFC 3393, from one
packet to the next).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from records.stamp import StampReflectorKind

__all__ = ["Answer", "Losses", "losses", "proves_stateful", "variations"]


@dataclass(slots=True, kw_only=True)
class Answer:
    """What one reply says, times in ns since 1970, each by the clock of its end.

    number                 the reflector's sequence number
    received_ns, replied_ns   T2, T3
    sent_ns, arrived_ns    T1, T4 by kernel stamps; None where there are none
    error_ns               what the reflector states of its clock; None: nothing
    has_session            it knows our session id: its numbers began at 0 with our first packet
    ttl                    with which our packet reached it; None: it does not say
    """

    number: int
    received_ns: int
    replied_ns: int
    error_ns: int | None
    has_session: bool
    ttl: int | None
    sent_ns: int | None = None
    arrived_ns: int | None = None

    @property
    def residence_ns(self) -> int:
        """T3 - T2."""
        return self.replied_ns - self.received_ns


@dataclass(frozen=True, slots=True)
class Losses:
    """Lost packets by direction; forward and backward None: not known, and all are undirected."""

    forward: int | None
    backward: int | None
    undirected: int


def proves_stateful(numbers: Mapping[int, int]) -> bool:
    """Whether a reflector counts by itself: one of its numbers is not the packet's own. `numbers`: packet -> reply number."""
    return any(number != packet for packet, number in numbers.items())


def losses(
    sent: Sequence[int], numbers: Mapping[int, int], kind: StampReflectorKind | None, *, is_fresh: bool, spare: Collection[int] = ()
) -> Losses:
    """Loss of a round by direction.

    sent      packets that left, by number, ascending
    numbers   of those answered (late ones too): packet -> the reflector's number of its reply
    kind      of the reflector; None: not known
    spare     numbers of further replies to the same packets, which something on the way doubled
    is_fresh  its numbers began at 0 with this round; without that, loss before the first reply is undirected

    >>> losses(range(6), {0: 0, 3: 2, 4: 3}, "stateful", is_fresh=True)  # reply 1 never came; 1 or 2 never arrived; 5: who knows
    Losses(forward=1, backward=1, undirected=1)
    """
    missing = [packet for packet in sent if packet not in numbers]
    if not missing:
        return Losses(0, 0, 0)
    if kind != "stateful" or not numbers:
        return Losses(None, None, len(missing))
    in_place = _in_place(sent, numbers, spare)
    if not in_place:
        return Losses(None, None, len(missing))
    (first, lowest), (newest, highest) = (-1, 0) if is_fresh else in_place[0], in_place[-1]
    inside = sum(first < packet < newest for packet in missing)
    came = {number for number in (*numbers.values(), *spare) if lowest <= number <= highest}
    backward = highest - lowest + 1 - len(came)
    # It began anew within the round, or is not what it was said to be.
    if len(set(numbers.values())) != len(numbers) or not 0 <= backward <= inside:
        return Losses(None, None, len(missing))
    return Losses(inside - backward, backward, len(missing) - inside)


def _in_place(sent: Sequence[int], numbers: Mapping[int, int], spare: Collection[int]) -> list[tuple[int, int]]:
    """The answered packets, with their numbers, that came after all earlier answered ones and before all later ones.

    And that did not change places with an unanswered neighbour: the one sent before would have got the next number, the one sent
    after the number before; so either that packet was answered or that number came back, or there is none.
    """
    numbered, came = [(packet, numbers[packet]) for packet in sent if packet in numbers], {*numbers.values(), *spare}
    before, after = {packet: nearer for nearer, packet in pairwise(sent)}, dict(pairwise(sent))
    least_after = [*reversed([*accumulate((number for _, number in reversed(numbered)), min)])][1:]
    found, most = [], -1
    for at, (packet, number) in enumerate(numbered):
        is_in_order = number > most and (at == len(least_after) or number < least_after[at])
        is_behind = before.get(packet, packet) in numbers or number + 1 in came
        is_ahead = after.get(packet, packet) in numbers or number - 1 in came or number == 0
        if is_in_order and is_behind and is_ahead:
            found.append((packet, number))
        most = max(most, number)
    return found


def variations(delays_ns: Sequence[int | None]) -> list[int | None]:
    """Each delay above the least of them (PDV, RFC 5481 section 4.2); any constant in them falls out.

    >>> variations([-500, None, -480])
    [0, None, 20]
    """
    least = min((delay for delay in delays_ns if delay is not None), default=0)
    return [None if delay is None else delay - least for delay in delays_ns]
