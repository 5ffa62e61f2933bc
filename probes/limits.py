"""How many probe packets may leave: a token bucket for the whole agent and one for each target.

Pure: time comes in as an argument. The promise is the one of every token bucket, and it is exact, because all of it is
integer arithmetic: in any span of w seconds at most ``burst + rate * w`` packets are granted.
"""

from __future__ import annotations

from records.units import SECOND

__all__ = ["PacketLimits", "TokenBucket"]


class TokenBucket:
    """A bucket of `burst` tokens, full at first, refilled at `rate_per_s`.

    Raises ValueError unless both are positive whole numbers.
    """

    def __init__(self, rate_per_s: int, burst: int) -> None:
        if rate_per_s < 1 or burst < 1:
            raise ValueError(f"rate {rate_per_s} and burst {burst} must be at least 1")
        self.rate_per_s = rate_per_s
        self.burst = burst
        # The level is kept in 1e-9 tokens: a rate of r per second is then exactly r of them per nanosecond.
        self._level = burst * SECOND
        self._at_ns: int | None = None

    def _refill(self, now_ns: int) -> None:
        if self._at_ns is not None and now_ns > self._at_ns:
            self._level = min(self.burst * SECOND, self._level + (now_ns - self._at_ns) * self.rate_per_s)
        self._at_ns = now_ns if self._at_ns is None else max(now_ns, self._at_ns)

    def wait_ns(self, tokens: int, now_ns: int) -> int:
        """How long until `tokens` are there, in ns; 0 when they are. Takes nothing.

        Raises ValueError when they are more than the bucket can ever hold.
        """
        if tokens > self.burst:
            raise ValueError(f"{tokens} packets at once can never be granted by a bucket of {self.burst}")
        self._refill(now_ns)
        missing = tokens * SECOND - self._level
        return 0 if missing <= 0 else -(-missing // self.rate_per_s)

    def take(self, tokens: int, now_ns: int) -> bool:
        """Take `tokens` if all of them are there; False leaves the bucket as it was."""
        if self.wait_ns(tokens, now_ns) > 0:
            return False
        self._level -= tokens * SECOND
        return True


class PacketLimits:
    """Packets per second in all and towards each target address.

    total_per_s       of the whole agent
    per_target_per_s  towards one address
    largest_round     packets of the largest single round; both buckets hold at least that much, since a round is
                      granted whole or not at all
    """

    def __init__(self, *, total_per_s: int, per_target_per_s: int, largest_round: int = 1) -> None:
        self._total = TokenBucket(total_per_s, max(total_per_s, largest_round))
        self._per_target_per_s = per_target_per_s
        self._target_burst = max(per_target_per_s, largest_round)
        self._targets: dict[str, TokenBucket] = {}

    def take(self, target: str, packets: int, now_ns: int) -> int:
        """Take `packets` towards `target`: 0 when granted, else the ns after which asking again makes sense."""
        if packets == 0:
            return 0
        bucket = self._targets.get(target)
        if bucket is None:
            bucket = self._targets[target] = TokenBucket(self._per_target_per_s, self._target_burst)
        wait_ns = max(self._total.wait_ns(packets, now_ns), bucket.wait_ns(packets, now_ns))
        if wait_ns == 0:
            self._total.take(packets, now_ns)
            bucket.take(packets, now_ns)
        return wait_ns
