"""Settings of the serving probe. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from records.errors import ConfigError

__all__ = ["ServingConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingConfig:
    """How a server's metrics are read.

    timeout_ms          for the whole reading, from DNS to the last byte
    max_response_bytes  an answer longer than this counts as broken
    http                auto (what TLS agrees on, HTTP/1.1 without TLS), 1.1, or 2 (without TLS by prior knowledge)
    ca_file             PEM file of the authority that signs the servers' certificates; empty: the system's
    """

    timeout_ms: int = 3_000
    max_response_bytes: int = 8_000_000
    http: str = "auto"
    ca_file: str = ""

    def __post_init__(self) -> None:
        for name, least, most in (("timeout_ms", 1, 600_000), ("max_response_bytes", 1_000, 1_000_000_000)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ConfigError(f"serving {name} is {value!r}; give a whole number from {least} to {most}")
        if self.http not in ("auto", "1.1", "2"):
            raise ConfigError(f"serving http is {self.http!r}; give one of auto, 1.1, 2")
        if not isinstance(self.ca_file, str):
            raise ConfigError(f"serving ca_file is {self.ca_file!r}; give the path of a PEM file")
