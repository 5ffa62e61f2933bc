"""Settings of the throughput probe. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from probes.throughput.wire import CONGESTION_NAME_BYTES, Method
from records.errors import ConfigError

__all__ = ["TOOLS", "ThroughputConfig"]

TOOLS = ("auto", "iperf3", "builtin")
ESTIMATORS = ("sample", "train")


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputConfig:
    """How much of a path may be filled, how often, and at what cost. The defaults are small: a second, 20 MB.

    duration_s          time budget of one direction
    min_round_trips     on a long path a test lasts at least so many round trips (TCP doubles its rate each round trip
                        from about 15 kB: in 10 it has sent 15 MB); 0 keeps to duration_s. The byte budget always holds
    max_bytes           byte budget of one direction (bytes of payload)
    direction           up (from the agent), down, both (one after the other) or bidir (at the same time)
    tool                iperf3, builtin, or auto: iperf3 where it is installed at both ends, else builtin
    busy_wait_s         how long to wait for a server that is running another test
    congestion_control  of the sender, such as bbr or cubic; empty: bbr for the built-in test where the
                        kernel has it (it reads a bottleneck with fewer bytes), the kernel's own choice for iperf3
    streams             connections at the same time
    protocol            tcp, or udp (iperf3 only) at udp_rate_mbps
    full_every          of so many measurements of a target one is a full test, the others are estimates; 1: all are full, 0: none is
    estimator           what an estimate is: sample (a transfer that ends when BBR has found the rate) or train (UDP packets)
    estimate_s          time budget of a sample (on a long path 20 round trips), estimate_max_bytes of an estimate of one direction
    load_rtt            measure the RTT before and during a test by pings beside it
    bytes_per_day       the most that all tests may take in a day of UTC, by cloud of the target (``aws``; ``own`` for sites without a
                        cloud) and in all (``all``); usd_per_day the same in money
    egress_usd_per_gb   price of a GB that leaves an end, by its cloud; what is not named is free
    budget_file         where the day's sums are kept across restarts; needed with a budget
    """

    duration_s: float = 1.0
    min_round_trips: int = 10
    max_bytes: int = 20_000_000
    direction: str = "both"
    tool: str = "auto"
    busy_wait_s: float = 10.0
    congestion_control: str = ""
    streams: int = 1
    protocol: str = "tcp"
    udp_rate_mbps: float = 10.0
    full_every: int = 6
    estimator: Method = "sample"
    estimate_s: float = 0.3
    estimate_max_bytes: int = 12_000_000
    load_rtt: bool = True
    bytes_per_day: dict[str, float] = field(default_factory=dict)
    usd_per_day: dict[str, float] = field(default_factory=dict)
    egress_usd_per_gb: dict[str, float] = field(default_factory=dict)
    budget_file: str = ""

    def __post_init__(self) -> None:
        ranges = (("duration_s", 0.1, 60.0), ("busy_wait_s", 0.0, 600.0), ("estimate_s", 0.1, 10.0), ("udp_rate_mbps", 0.01, 100_000.0))
        for name, least, most in ranges:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not least <= value <= most:
                raise ConfigError(
                    f"throughput {name} is {value!r}; give {'Mbit/s' if name.endswith('mbps') else 'seconds'} from {least:g} to {most:g}"
                )
        whole = (("max_bytes", 10_000, 10**11), ("min_round_trips", 0, 1_000), ("streams", 1, 16), ("full_every", 0, 100_000))
        for name, least, most in (*whole, ("estimate_max_bytes", 100_000, 10**9)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ConfigError(f"throughput {name} is {value!r}; give a whole number from {least:.0f} to {most:.0f}")
        choices = (("direction", ("up", "down", "both", "bidir")), ("tool", TOOLS), ("protocol", ("tcp", "udp")), ("estimator", ESTIMATORS))
        for name, allowed in choices:
            if (chosen := getattr(self, name)) not in allowed:
                raise ConfigError(f"throughput {name} is {chosen!r}; give one of {', '.join(allowed)}")
        name = self.congestion_control
        if (
            not isinstance(name, str)
            or len(name) > CONGESTION_NAME_BYTES
            or (not name.replace("-", "").replace("_", "").isalnum() and name)
        ):
            raise ConfigError(f"throughput congestion_control is {name!r}; give a name such as bbr or cubic, or leave it empty")
        for name in ("bytes_per_day", "usd_per_day", "egress_usd_per_gb"):
            for cloud, value in getattr(self, name).items():
                if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                    raise ConfigError(f"throughput {name}.{cloud} is {value!r}; give a number, 0 or more")
        if (self.bytes_per_day or self.usd_per_day) and not self.budget_file:
            raise ConfigError("throughput bytes_per_day and usd_per_day need budget_file: what was spent must outlive a restart")
