"""Real inference servers for the lab: llama.cpp's own server with a model small enough to make on the spot.

What an inference probe measures against it is real: HTTP over TCP, prefill, batching slots, a queue when all slots
are taken, tokens one by one. Only the model's words mean nothing. Nothing heavy is imported until it is used.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lab.serving.ready import wait_ready

__all__ = ["MODEL_NAME", "SLOT_COUNT", "make_model", "server_argv", "wait_ready"]

#: What the served model is called, in requests and in ``/v1/models``.
MODEL_NAME = "isochrone-tiny"

#: Requests one server decodes at the same time; a further one waits in its queue.
SLOT_COUNT = 4


def server_argv(address: str, port: int, model_path: Path) -> list[str]:
    """The command that serves `model_path` on `address`:`port` until SIGTERM or the death of its parent."""
    return [sys.executable, "-m", "lab.serving.server", "--host", address, "--port", str(port), "--model", str(model_path)]


def make_model(path: Path, seed: int = 0) -> Path:
    """Write the tiny model (GGUF, about half a megabyte) to `path` unless it is there; returns `path`.

    The same seed gives the same bytes. Several processes may ask for the same file at once.
    Raises ToolMissing when the `gguf` or `numpy` package is not installed.
    """
    from lab.serving import model

    return model.make_model(path, seed)
