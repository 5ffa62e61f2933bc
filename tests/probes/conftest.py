"""What several tests of the agent need."""

import socket

import pytest


@pytest.fixture
def unused_port() -> int:
    """A TCP port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def worker_port() -> int:
    """A TCP port of loopback that nobody listened on when the module's tests began."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
