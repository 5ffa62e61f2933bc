"""Settings of the throughput probe. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from records.errors import ConfigError

__all__ = ["TOOLS", "ThroughputConfig"]

TOOLS = ("auto", "iperf3", "builtin")


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputConfig:
    """How much of a path may be filled, and for how long. The defaults are small: a second, 20 MB.

    duration_s          time budget of one direction
    min_round_trips     on a long path a test lasts at least so many round trips (TCP doubles its rate each round trip
                        from about 15 kB: in 10 it has sent 15 MB); 0 keeps to duration_s. The byte budget always holds
    max_bytes           byte budget of one direction (bytes of payload)
    direction           up (from the agent), down, or both, one after the other
    tool                iperf3, builtin, or auto: iperf3 where it is installed at both ends, else builtin
    busy_wait_s         how long to wait for a server that is running another test
    congestion_control  of the sender, such as bbr or cubic; empty: bbr for the built-in test where the
                        kernel has it (it reads a bottleneck with fewer bytes), the kernel's own choice for iperf3
    """

    duration_s: float = 1.0
    min_round_trips: int = 10
    max_bytes: int = 20_000_000
    direction: str = "both"
    tool: str = "auto"
    busy_wait_s: float = 10.0
    congestion_control: str = ""

    def __post_init__(self) -> None:
        for name, least, most in (("duration_s", 0.1, 60.0), ("busy_wait_s", 0.0, 600.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not least <= value <= most:
                raise ConfigError(f"throughput {name} is {value!r}; give seconds from {least:g} to {most:g}")
        for name, least, most in (("max_bytes", 10_000, 100_000_000_000), ("min_round_trips", 0, 1_000)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ConfigError(f"throughput {name} is {value!r}; give a whole number from {least:.0f} to {most:.0f}")
        for name, allowed in (("direction", ("up", "down", "both")), ("tool", TOOLS)):
            if (chosen := getattr(self, name)) not in allowed:
                raise ConfigError(f"throughput {name} is {chosen!r}; give one of {', '.join(allowed)}")
        name = self.congestion_control
        if not isinstance(name, str) or len(name) > 15 or (not name.replace("-", "").replace("_", "").isalnum() and name):
            raise ConfigError(f"throughput congestion_control is {name!r}; give a name such as bbr or cubic, or leave it empty")
