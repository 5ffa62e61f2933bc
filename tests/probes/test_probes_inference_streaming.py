"""The verdict on streaming: arrivals as servers, proxies, paths and late clients make them."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.inference.streaming import Read, arrivals, is_streamed

MS = 1_000_000
MSS = 1448
EVENT = 250


def reads(arrivals: Iterable[tuple[float, int, int | None]], *, head_ms: float | None = None, event_bytes: int = EVENT) -> list[Read]:
    """Reads of (arrival in ms, tokens, segments); each took all that was there. The request left at 0."""
    made: list[Read] = []
    if head_ms is not None:
        made.append(Read(at_ns=int(head_ms * MS), empty_ns=0, size_bytes=150, tokens=0, segments=1))
    for at_ms, tokens, segments in arrivals:
        empty_ns = made[-1].at_ns if made else 0
        made.append(Read(at_ns=int(at_ms * MS), empty_ns=empty_ns, size_bytes=tokens * event_bytes, tokens=tokens, segments=segments))
    return made


def verdict(
    made: list[Read], *, rtt_ms: float = 20, mss: int = MSS, is_stamped: bool = True, decode_ms: float | None = None
) -> bool | None:
    decode_ns = None if decode_ms is None else int(decode_ms * MS)
    return is_streamed(made, rtt_ns=int(rtt_ms * MS), mss_bytes=mss, is_stamped=is_stamped, decode_ns=decode_ns)


def test_tokens_that_come_apart_were_streamed() -> None:
    """Sixteen tokens 20 ms apart over a path of 150 ms: no answer that was held back comes in sixteen pieces."""
    assert verdict(reads([(900 + 20 * i, 1, 1) for i in range(16)]), rtt_ms=150) is True


@pytest.mark.parametrize("head_ms", [None, 799.8, 100])
def test_an_answer_in_one_packet_was_held_back(head_ms: float | None) -> None:
    """All tokens in one segment, with the head, long after it, or right after it but sooner than an acknowledgement."""
    assert verdict(reads([(800, 400, 1)], head_ms=head_ms, event_bytes=3)) is False
    # Sixteen are enough where the server says that making them took 200 ms.
    assert verdict(reads([(800, 16, 1)], head_ms=head_ms, event_bytes=60), decode_ms=200) is False


def test_a_client_that_was_late_knows_nothing() -> None:
    """One read of many small segments: streamed or not, they were all there when the client woke."""
    assert verdict(reads([(800, 16, 17)]), decode_ms=200) is None
    assert verdict(reads([(800, 400, 401)])) is None
    # The same after a read that emptied the connection 0.3 ms before: then they did come together.
    assert verdict(reads([(800, 0, 1), (800.3, 16, 17)]), decode_ms=200) is False


def test_a_fast_or_busy_server_is_not_accused() -> None:
    """Tokens that a model could have made while its server's threads had to wait, or so few that it makes no difference: not known."""
    assert verdict(reads([(5, 0, 1), (6.9, 16, 1)]), rtt_ms=0.05, mss=32_768) is None
    assert verdict(reads([(5, 0, 1), (6.9, 16, 1)]), rtt_ms=0.05, mss=32_768, decode_ms=45) is None
    assert verdict(reads([(800, 8, 1)])) is None
    assert arrivals(reads([(800, 8, 1)]), rtt_ns=MS, is_stamped=True) == 1


def test_nagles_algorithm_is_not_taken_for_a_proxy() -> None:
    """Tokens in one packet one round trip (and a delayed acknowledgement) after the head: the sender's TCP may have kept them."""
    assert verdict(reads([(520, 16, 1)], head_ms=500, event_bytes=60), decode_ms=200) is None
    assert verdict(reads([(562, 16, 1)], head_ms=500, event_bytes=60), decode_ms=200) is None
    assert verdict(reads([(700, 16, 1)], head_ms=500, event_bytes=60), decode_ms=200) is False


def test_a_long_answer_that_was_held_back_is_never_called_streamed() -> None:
    """Flights of slow start, one a round trip, packets full: apart in time, and yet no stream."""
    flights = [(800 + 20 * number, 50 * 2**number, None) for number in range(6)]
    assert verdict(reads(flights)) is not True
    # A slow path brings full packets one by one.
    slow = [(800 + 11.6 * number, 6, 1) for number in range(60)]
    assert verdict(reads(slow)) is not True
    # A loss cuts a short one in two.
    assert verdict(reads([(800, 5, 5), (1010, 11, 11)])) is not True


def test_bursts_of_a_streaming_server_count() -> None:
    """Five tokens at a time, 100 ms apart, is streaming; without the kernel's stamps too."""
    bursts = [(800 + 100 * number, 5, 1) for number in range(4)]
    assert verdict(reads(bursts, event_bytes=100)) is True
    assert verdict(reads(bursts, event_bytes=100), is_stamped=False) is True


def test_gaps_of_a_busy_client_are_no_arrivals() -> None:
    """Without stamps a client that is preempted makes gaps of its own: a few ms prove nothing."""
    burst = [(800 + 4 * number, 2, 2) for number in range(8)]
    assert verdict(reads(burst), is_stamped=False) is None


@given(
    tokens=st.integers(2, 400),
    rtt_ms=st.floats(0.05, 300),
    event_bytes=st.integers(80, 400),
    wakes=st.lists(st.floats(0, 50), min_size=1, max_size=20),
    has_head=st.booleans(),
)
def test_a_held_back_answer_that_fits_one_flight_is_never_called_streamed(
    tokens: int, rtt_ms: float, event_bytes: int, wakes: list[float], has_head: bool
) -> None:
    """Whenever the client wakes: packets that left together at once carry stamps that lie together."""
    size = tokens * event_bytes
    if size > 10 * MSS:
        return
    at_ms = 500.0
    # The client finds what is there at each of its wakings; the stamps are those of the packets, 12 us apart.
    made, left = [], tokens
    for number, _ in enumerate(sorted(wakes)):
        some = left if number == len(wakes) - 1 else left // 2
        left -= some
        made.append((at_ms + 0.012 * number, some, max(1, some * event_bytes // MSS)))
    found = reads(made, head_ms=at_ms - rtt_ms if has_head else None, event_bytes=event_bytes)
    assert verdict(found, rtt_ms=rtt_ms) is not True


@given(
    gap_ms=st.floats(0.15, 60),
    tokens=st.integers(2, 64),
    rtt_ms=st.floats(0.05, 300),
    late_ms=st.lists(st.floats(0, 400), min_size=64, max_size=64),
)
def test_a_streamed_answer_is_never_called_held_back(gap_ms: float, tokens: int, rtt_ms: float, late_ms: list[float]) -> None:
    """Whatever the client's lateness: tokens that were sent one by one, each in its packet, are not said to have been kept."""
    sent = [500 + gap_ms * number for number in range(tokens)]
    found: list[Read] = [Read(at_ns=490 * MS, empty_ns=0, size_bytes=150, tokens=0, segments=1)]
    waiting, read_ms = 0, 490.0
    for number, at_ms in enumerate(sent):
        waiting += 1
        wakes_ms = max(at_ms, read_ms) + late_ms[number] * (number % 3 == 0)
        if number + 1 < tokens and sent[number + 1] <= wakes_ms:
            continue  # the next one is there by then
        found.append(Read(at_ns=int(at_ms * MS), empty_ns=int(read_ms * MS), size_bytes=waiting * EVENT, tokens=waiting, segments=waiting))
        read_ms, waiting = wakes_ms, 0
    assert verdict(found, rtt_ms=rtt_ms, decode_ms=gap_ms * (tokens - 1)) is not False
