"""One inference server as one process: ``python -m lab.serving.server --host A --port P --model FILE``.

llama.cpp's HTTP server, from the wheel `xllamacpp`, set up for many of them on a small machine: one thread per
batch, no polling, no prompt cache in memory, quiet. Ends on SIGTERM, SIGINT or the death of its parent.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from pathlib import Path

from lab.serving import MODEL_NAME, SLOT_COUNT

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

#: Tokens of context per slot: prompt and answer together.
SLOT_CONTEXT = 4096
#: Connections served at once. An idle thread costs nothing; one connection holds one thread while it is open.
HTTP_THREADS = 32


def _die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent ends, and end now if it already has."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lab.serving.server", description="Serve a tiny model over an OpenAI-compatible API.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080, help="TCP port (default 8080)")
    parser.add_argument("--model", type=Path, required=True, help="GGUF file; lab.serving.make_model writes one")
    parser.add_argument("--slots", type=int, default=SLOT_COUNT, help=f"requests decoded at once (default {SLOT_COUNT})")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Serve until told to stop; returns the exit status (2 the user's mistake, 3 something outside failed)."""
    _die_with_parent()
    options = _arguments(argv)
    if not options.model.is_file():
        print(f"no model at {options.model}; write one with lab.serving.make_model", file=sys.stderr)  # noqa: T201
        return 2
    # Before the server makes its threads, so that they inherit the mask and the signals wait for sigwait below.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        import xllamacpp
    except ImportError:
        print("inference servers need the Python package 'xllamacpp'; install it with: pip install 'isochrone[lab]'", file=sys.stderr)  # noqa: T201
        return 3
    params = xllamacpp.CommonParams()
    params.model.path = str(options.model)
    params.model_alias = {MODEL_NAME}
    params.hostnames = [options.host]
    params.port = options.port
    params.n_parallel = options.slots
    params.n_ctx = SLOT_CONTEXT * options.slots
    params.n_batch = 512
    params.n_ubatch = 256
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cpuparams.poll = params.cpuparams_batch.poll = 0
    params.n_threads_http = HTTP_THREADS
    params.n_gpu_layers = 0
    params.cache_ram_mib = 0
    params.n_ctx_checkpoints = 0
    params.fit_params = False
    params.warmup = False
    params.offline = True
    params.ui = False
    params.endpoint_metrics = True
    params.verbosity = 1
    try:
        server = xllamacpp.Server(params)  # its threads serve as long as the object lives
    except Exception as error:  # noqa: BLE001  the binding raises whatever llama.cpp threw
        print(f"cannot serve {options.model} on {options.host}:{options.port}: {error}", file=sys.stderr)  # noqa: T201
        return 3
    signal.sigwait(_STOP_SIGNALS)
    # Taking the server apart would wait for every open stream to end, and there is nothing to save.
    assert server is not None
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
