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
    max_bytes           byte budget of one direction (bytes of payload)
    direction           up (from the agent), down, or both, one after the other
    tool                iperf3, builtin, or auto: iperf3 where it is installed at both ends, else builtin
    busy_wait_s         how long to wait for a server that is running another test
    congestion_control  of the sender, such as bbr or cubic; empty: bbr for the built-in test where the
                        kernel has it (it reads a bottleneck with fewer bytes), the kernel's own choice for iperf3
    """

    duration_s: float = 1.0
    max_bytes: int = 20_000_000
    direction: str = "both"
    tool: str = "auto"
    busy_wait_s: float = 5.0
    congestion_control: str = ""

    def __post_init__(self) -> None:
        for name, least, most in (("duration_s", 0.1, 60.0), ("busy_wait_s", 0.0, 600.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not least <= value <= most:
                raise ConfigError(f"throughput {name} is {value!r}; give seconds from {least:g} to {most:g}")
        if isinstance(self.max_bytes, bool) or not isinstance(self.max_bytes, int) or not 10_000 <= self.max_bytes <= 100_000_000_000:
            raise ConfigError(f"throughput max_bytes is {self.max_bytes!r}; give a whole number from 10000 to 100000000000")
        for name, allowed in (("direction", ("up", "down", "both")), ("tool", TOOLS)):
            if (chosen := getattr(self, name)) not in allowed:
                raise ConfigError(f"throughput {name} is {chosen!r}; give one of {', '.join(allowed)}")
        name = self.congestion_control
        if not isinstance(name, str) or len(name) > 15 or (not name.replace("-", "").replace("_", "").isalnum() and name):
            raise ConfigError(f"throughput congestion_control is {name!r}; give a name such as bbr or cubic, or leave it empty")
