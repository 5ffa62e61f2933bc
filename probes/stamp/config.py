"""Settings of the STAMP probe, and the key of authenticated mode. Pure but for reading the key's file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from probes.stamp.wire import BASE_BYTES, MAX_PACKET_BYTES, MIN_PADDING_BYTES
from records.errors import ConfigError
from records.stamp import StampReflectorKind

__all__ = ["StampConfig", "read_key"]

_LEAST_KEY_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class StampConfig:
    """A round of STAMP test packets.

    count           packets of a round
    interval_ms     from one to the next
    timeout_ms      a reply later than this counts as lost
    packet_bytes    UDP payload, the same in both directions; 0: the least there is, 44, or 112 with a key
    key_file        file with the key of authenticated mode (HMAC-SHA-256); empty: unauthenticated
    reflector       what the reflectors are: stateful (loss by direction), stateless, or auto (found out)
    clock_error_us  bound of this host's clock error where it is known by other means (PTP, GPS); 0 asks the kernel
    """

    count: int = 20
    interval_ms: float = 50
    timeout_ms: float = 2000
    packet_bytes: int = 0
    key_file: str = ""
    reflector: str = "auto"
    clock_error_us: float = 0

    def __post_init__(self) -> None:
        limits = {"count": (1, 10_000), "interval_ms": (1, 60_000), "timeout_ms": (1, 60_000), "clock_error_us": (0, 1e9)}
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ConfigError(f"stamp {name} is {value!r}; give a number from {low} to {high:.0f}")
        for name in ("count", "packet_bytes"):
            if isinstance(getattr(self, name), bool) or not isinstance(getattr(self, name), int):
                raise ConfigError(f"stamp {name} is {getattr(self, name)!r}; give a whole number")
        base = self.base_bytes
        if self.packet_bytes not in {0, base} and not base + MIN_PADDING_BYTES <= self.packet_bytes <= MAX_PACKET_BYTES:
            least = base + MIN_PADDING_BYTES
            raise ConfigError(f"stamp packet_bytes is {self.packet_bytes}; give 0, {base}, or {least} to {MAX_PACKET_BYTES}")
        if self.reflector not in {"auto", "stateful", "stateless"}:
            raise ConfigError(f"stamp reflector is {self.reflector!r}; give one of auto, stateful, stateless")

    @property
    def base_bytes(self) -> int:
        """The least a packet can have."""
        return BASE_BYTES[bool(self.key_file)]

    @property
    def kind(self) -> StampReflectorKind | None:
        """What the reflectors are said to be; None: to be found out."""
        return None if self.reflector == "auto" else cast("StampReflectorKind", self.reflector)


def read_key(path: str | Path) -> bytes:
    """The key in a file: its first line, without the space around it. Raises ConfigError without one of at least 16 characters."""
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the STAMP key {path}: {error.strerror}; make one with: openssl rand -hex 32 > {path}") from None
    key = text.split(b"\n", 1)[0].strip()
    if len(key) < _LEAST_KEY_BYTES:
        raise ConfigError(f"the STAMP key in {path} has {len(key)} characters; give at least {_LEAST_KEY_BYTES}: openssl rand -hex 32")
    return key
