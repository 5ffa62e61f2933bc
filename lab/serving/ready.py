"""Waiting until an inference server answers."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable

from records.errors import OutsideError

__all__ = ["wait_ready"]


def wait_ready(url: str, timeout_s: float = 20.0, alive: Callable[[], bool] | None = None) -> float:
    """Block until the server of base URL `url` (``http://ADDR:PORT/v1`` or without ``/v1``) has its model loaded.

    alive   says whether the server's process still runs; None does not ask
    returns the seconds waited
    Raises OutsideError when it is not ready in `timeout_s`, or its process has ended.
    """
    base = url.rstrip("/").removesuffix("/v1")
    if not base.startswith("http://"):
        raise OutsideError(f"cannot wait for {url!r}: the lab's servers speak plain http://")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a lab address is never behind a proxy
    began = time.monotonic()
    problem = "no answer"
    while (waited := time.monotonic() - began) < timeout_s:
        if alive is not None and not alive():
            raise OutsideError(f"the inference server at {base} ended before it was ready; its log says why")
        try:
            with direct.open(f"{base}/health", timeout=2) as answer:
                if answer.status == 200:
                    return time.monotonic() - began
        except urllib.error.HTTPError as error:
            problem = f"HTTP {error.code}"  # 503 while the model loads
        except OSError as error:
            problem = str(error)
        time.sleep(0.02 if waited < 1 else 0.1)
    raise OutsideError(f"the inference server at {base} was not ready within {timeout_s:g} s ({problem})")
