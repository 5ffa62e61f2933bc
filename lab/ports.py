"""The ports on which the lab's hosts serve."""

from __future__ import annotations

__all__ = ["INFERENCE_PORT", "THROUGHPUT_PORT", "UDP_ECHO_PORT"]

INFERENCE_PORT = 8080
THROUGHPUT_PORT = 5201
UDP_ECHO_PORT = 8622
