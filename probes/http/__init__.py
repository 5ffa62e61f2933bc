"""HTTP probe: one connection split by phase: name look-up, TCP (the kernel's RTT), TLS in full and resumed, one request.

`failure` and `session` are pure (bytes and times in, values out); `client` and probes.stream hold the sockets.
"""

from probes.http.config import HttpConfig
from probes.http.probe import HttpProbe

__all__ = ["HttpConfig", "HttpProbe"]
