"""Serving probe: what an inference server says of itself, read from its own metrics (Prometheus text).

`metrics` is pure (text in, numbers out); the connection is that of the inference probe. records.claims holds what is said
against what clients waited.
"""

from probes.serving.config import ServingConfig
from probes.serving.probe import ServingProbe

__all__ = ["ServingConfig", "ServingProbe"]
