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
        if settings.stamp_port is not None:
            from probes.stamp import StampReflector, parse_networks, read_key

            stamp = StampReflector(
                settings.host,
                settings.stamp_port,
                key=None if settings.stamp_key_file is None else read_key(settings.stamp_key_file),
                is_stateful=not settings.stamp_stateless,
                allowed=parse_networks(settings.stamp_allow.split()),
                packets_per_s=settings.stamp_packets_per_second,
                clock_error_ns=round(settings.stamp_clock_error_us * 1000) or None,
            )
            await stamp.start()
            stack.push_async_callback(stamp.stop)
        if settings.throughput_port is not None:
            from probes.throughput import ThroughputServer

            server = ThroughputServer(settings.host, settings.throughput_port)
            await server.start()
            stack.push_async_callback(server.stop)
        yield
