"""How many probe packets may leave: a token bucket for the whole agent, one for each target and one for each network.

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

    def carry_over(self, old: TokenBucket, now_ns: int) -> None:
        """Be as empty as another bucket is: as many tokens are missing."""
        old._refill(now_ns)
        self._level = max(0, self.burst * SECOND - (old.burst * SECOND - old._level))
        self._at_ns = now_ns


#: From how many buckets on those that are full again, which say nothing, are forgotten.
_TIDY_FROM = 4096


class PacketLimits:
    """Packets per second in all, towards each address, and towards each network (an IPv4 /24, an IPv6 /48).

    total_per_s        of the whole agent
    per_target_per_s   towards one address
    per_network_per_s  towards one network; None for no bound of its own
    largest_round      packets of the largest single round; every bucket holds at least that much, since a round is
                       granted whole or not at all
    """

    def __init__(self, *, total_per_s: int, per_target_per_s: int, per_network_per_s: int | None = None, largest_round: int = 1) -> None:
        self._total = TokenBucket(total_per_s, max(total_per_s, largest_round))
        self._rates = (per_target_per_s, per_network_per_s or total_per_s)
        self._largest_round = largest_round
        self._buckets: dict[tuple[int, str], TokenBucket] = {}

    def take(self, target: str, packets: int, now_ns: int, *, network: str | None = None) -> int:
        """Take `packets` towards `target` in `network`: 0 when granted, else the ns after which to ask again."""
        if packets == 0:
            return 0
        buckets = [self._total, self._bucket(0, target, now_ns)]
        if network is not None:
            buckets.append(self._bucket(1, network, now_ns))
        wait_ns = max(bucket.wait_ns(packets, now_ns) for bucket in buckets)
        if wait_ns == 0:
            for bucket in buckets:
                bucket.take(packets, now_ns)
        return wait_ns

    def carry_over(self, old: PacketLimits, now_ns: int) -> None:
        """Begin with what `old` has granted lately still granted: new limits are no reason for a burst."""
        self._total.carry_over(old._total, now_ns)
        for key, bucket in old._buckets.items():
            self._bucket(*key, now_ns).carry_over(bucket, now_ns)

    def _bucket(self, scope: int, name: str, now_ns: int) -> TokenBucket:
        bucket = self._buckets.get((scope, name))
        if bucket is None:
            if len(self._buckets) >= _TIDY_FROM:
                self._buckets = {key: kept for key, kept in self._buckets.items() if kept.wait_ns(kept.burst, now_ns) > 0}
            rate = self._rates[scope]
            bucket = self._buckets[scope, name] = TokenBucket(rate, max(rate, self._largest_round))
        return bucket
