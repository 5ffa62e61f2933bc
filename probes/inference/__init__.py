"""Inference probe: time to first token of an OpenAI-compatible endpoint, split into its phases.

`sse`, `chunk` and `session` are pure (bytes and times in, values out); `client` is the only module with a socket.
"""

from probes.inference.config import InferenceConfig
from probes.inference.probe import InferenceProbe

__all__ = ["InferenceConfig", "InferenceProbe"]
