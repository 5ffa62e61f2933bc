"""Was an answer really streamed? Decided from when its packets came, so that no verdict rests on a client that was late. Pure.

The question is about the other end: were tokens sent as they were made, or was the answer held back and sent at once? What
is known of each read of the connection: when the kernel took its last packet, how many packets it held at most, how many
bytes and tokens, and since when the connection had been read empty. From that:

True   tokens came in more separate arrivals than an answer that was held back can come in. Such an answer leaves in flights
       that grow with the congestion window, one a round trip, and once more where a packet was lost. Arrivals are separate when
       they are further apart than the path is long (at most 1 ms), and only those count that are no full packets: full ones are a
       transfer at the path's rate, whoever makes it.
False  the answer was no event stream at all; or its tokens came within a time in which they cannot have been made. How long they
       took to make some servers say themselves; else no server is taken to decode one request faster than 5,000 tokens a second,
       so that it takes some 250 tokens to say. A server whose own threads had to wait sends late what it made in time, and so does
       Nagle's algorithm, which holds small packets until the one before (the answer's head) is acknowledged: 50 ms are allowed for
       the one, a round trip and a delayed acknowledgement for the other. And when the tokens came is known only where they came in
       one packet, or the connection had been read empty just before; a client that was late knows nothing.
None   neither is proven: few tokens, a server that is faster than the network can show, or a client that was not awake.

A short answer through a proxy that buffers is None, for a busy server could look the same once. It does not look the same every
time: `arrivals` counts how often tokens came apart, and 1 in request after request is a proxy that buffers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Read", "arrivals", "is_streamed"]

#: No server decodes one request faster; what came closer together was not sent as it was made.
_LEAST_TOKEN_NS = 200_000
#: A server's own threads may hold tokens for so long without anybody's intent.
_INNOCENT_NS = 50_000_000
_LEAST_APART_NS, _MOST_APART_NS = 50_000, 1_000_000
#: Without the kernel's stamps a busy client makes gaps of its own.
_APART_UNSTAMPED_NS = 20_000_000
#: A receiver may hold an acknowledgement so long (Linux; RFC 9293 allows 500 ms).
_DELAYED_ACK_NS = 50_000_000
#: Segments of the first flight (RFC 6928).
_INITIAL_WINDOW = 10
_DEFAULT_MSS_BYTES = 1448


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One read of the connection while an answer came.

    at_ns      when its last packet arrived: the kernel's stamp, or when it was read
    empty_ns   when the connection had last been read empty before; the first byte of this read arrived after it
    size_bytes, tokens   in it
    segments   TCP segments in it, at most; None: not known
    """

    at_ns: int
    empty_ns: int
    size_bytes: int
    tokens: int
    segments: int | None


def is_streamed(
    reads: Sequence[Read], *, rtt_ns: int | None, mss_bytes: int | None, is_stamped: bool, decode_ns: int | None = None
) -> bool | None:
    """See the module's text.

    rtt_ns      round trip of the connection; mss_bytes its largest segment; None: not known
    is_stamped  the times are the kernel's
    decode_ns   how long the server says that making the tokens took; None: it does not
    """
    mss = mss_bytes or _DEFAULT_MSS_BYTES
    small = [read for read in reads if read.size_bytes < 0.9 * mss]
    if arrivals(small, rtt_ns=rtt_ns, is_stamped=is_stamped) > 1 + _flights(sum(read.size_bytes for read in reads), mss):
        return True
    return False if _came_at_once(reads, rtt_ns, mss, decode_ns) else None


def arrivals(reads: Sequence[Read], *, rtt_ns: int | None, is_stamped: bool) -> int:
    """How many times, at least, tokens came apart from those before."""
    apart_ns = min(max(rtt_ns or _MOST_APART_NS, _LEAST_APART_NS), _MOST_APART_NS) if is_stamped else _APART_UNSTAMPED_NS
    times = [read.at_ns for read in reads if read.tokens]
    return bool(times) + sum(later - earlier > apart_ns for earlier, later in itertools.pairwise(times))


def _flights(size_bytes: int, mss_bytes: int) -> int:
    """Flights in which slow start sends so many bytes, each twice the one before."""
    return max(1, math.ceil(math.log2(size_bytes / (mss_bytes * _INITIAL_WINDOW) + 1)))


def _came_at_once(reads: Sequence[Read], rtt_ns: int | None, mss_bytes: int, decode_ns: int | None) -> bool:
    with_tokens = [number for number, read in enumerate(reads) if read.tokens]
    tokens = sum(read.tokens for read in reads)
    if not with_tokens or tokens < 2:
        return False
    first, last = reads[with_tokens[0]], reads[with_tokens[-1]]
    in_one_run = first.segments is not None and first.segments <= math.ceil(first.size_bytes / mss_bytes)
    spread_ns = last.at_ns - (first.at_ns if in_one_run else first.empty_ns)
    if spread_ns + _INNOCENT_NS >= max((tokens - 1) * _LEAST_TOKEN_NS, decode_ns or 0):
        return False
    if with_tokens[0] == 0:
        return True
    if rtt_ns is None:
        return False
    # What came before the tokens, such as the head, may be what they had to wait for.
    waited_ns = first.at_ns - reads[with_tokens[0] - 1].at_ns
    return not rtt_ns / 2 <= waited_ns <= 2 * rtt_ns + _DELAYED_ACK_NS
