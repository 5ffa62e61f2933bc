"""A network without sockets or clock, and a small world in which every plane has something of its own."""

from __future__ import annotations

from random import Random

from lab.forwarding import Forwarder
from lab.reading import parse_text
from lab.topology import Topology, builtin

MS = 1_000_000

#: Over the internet a diamond whose branches weigh the same and differ in delay, and one way of it that is dearer back;
#: over the backbone labels and a link that takes 1400 bytes; the private link's router is silent.
PLANES = """
name = "planes"
sites = [
    { id = "a", kind = "pop", name = "A", lat = 0, lon = 0 },
    { id = "b", kind = "pop", name = "B", lat = 0, lon = 9 },
]
routers = [
    { id = "in", medium = "internet" }, { id = "up", medium = "internet" },
    { id = "low", medium = "internet" }, { id = "out", medium = "internet" },
    { id = "m1", medium = "backbone", mpls = [16004, 24] }, { id = "m2", medium = "backbone" },
    { id = "quiet", medium = "direct-connect", silent = true },
]
links = [
    { between = ["a", "in"], delay_ms = 1 },
    { between = ["in", "up"], delay_ms = 3, metric = 10 },
    { between = ["in", "low"], delay_ms = 5, metric = 10 },
    { between = ["up", "out"], delay_ms = 3, metric = [10, 20] },
    { between = ["low", "out"], delay_ms = 5, metric = 10 },
    { between = ["out", "b"], delay_ms = 1 },
    { between = ["a", "m1"], delay_ms = 1 },
    { between = ["m1", "m2"], delay_ms = 4, mtu = 1400 },
    { between = ["m2", "b"], delay_ms = 1 },
    { between = ["a", "quiet"], delay_ms = 2 },
    { between = ["quiet", "b"], delay_ms = 2 },
]
"""


def planes() -> Topology:
    return parse_text(PLANES, "planes.toml")


class Network:
    """A forwarder with a clock of its own; keeps what every host receives, with the time."""

    def __init__(self, world: str | Topology = "triangle") -> None:
        self.forwarder = Forwarder(builtin(world) if isinstance(world, str) else world, Random(1).random)
        self.received: list[tuple[float, str, object]] = []
        self.frames: list[bytes] = []
        self.now_ns = 0

    def send(self, site: str, packet: object, at_ms: float = 0.0) -> None:
        frame = bytearray(bytes(10) + bytes(packet))  # type: ignore[call-overload]
        self.put(site, frame, at_ms)

    def put(self, site: str, frame: bytearray, at_ms: float = 0.0) -> None:
        """A frame as the host's interface hands it over."""
        self.forwarder.accept(self.forwarder.plan.site_ids.index(site), frame, round(at_ms * MS))

    def run(self) -> list[tuple[float, str, object]]:
        """Let everything arrive; returns (ms, site, packet)."""
        import scapy.all as scapy

        def deliver(host: int, frame: bytearray) -> int:
            if frame[10] >> 4 == 4:
                packet = scapy.IP(bytes(frame[10:]))
                assert scapy.checksum(bytes(frame[10:30])) in (0, 0xFFFF)
            else:
                packet = scapy.IPv6(bytes(frame[10:]))
            self.frames.append(bytes(frame))
            self.received.append((self.now_ns / MS, self.forwarder.plan.site_ids[host], packet))
            return self.now_ns

        while (due_ns := self.forwarder.due_ns) is not None:
            self.now_ns = due_ns
            self.forwarder.advance(due_ns, deliver)
        return self.received
