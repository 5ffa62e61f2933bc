"""What an agent offers others to measure against, as long as it runs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from probes.settings import ServeSettings

__all__ = ["serving"]


@contextlib.asynccontextmanager
async def serving(settings: ServeSettings) -> AsyncIterator[None]:
    """The reflectors of ``[serve]``. Raises the errors of their `start`, such as a port in use."""
    async with contextlib.AsyncExitStack() as stack:
        if settings.udp_echo_port is not None:
            from probes.ping import UdpEchoReflector

            reflector = UdpEchoReflector(settings.host, settings.udp_echo_port)
            await reflector.start()
            stack.push_async_callback(reflector.stop)
        if settings.throughput_port is not None:
            from probes.throughput import ThroughputServer

            server = ThroughputServer(settings.host, settings.throughput_port)
            await server.start()
            stack.push_async_callback(server.stop)
        yield
