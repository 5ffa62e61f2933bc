"""A nanosecond capture on the prober's own interface, as the truth of benchmarks; not a benchmark itself."""

from __future__ import annotations

import contextlib
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

__all__ = ["capture", "packets"]

#: Octets before the IP header, by link type (https://www.tcpdump.org/linktypes.html): Ethernet, raw IP, Linux cooked v1 and v2.
_SKIP = {1: 14, 12: 0, 101: 0, 113: 16, 276: 20}


@contextlib.contextmanager
def capture(command: Callable[[list[str]], Sequence[str]], path: Path, *, interface: str, keep: str) -> Iterator[None]:
    """Capture what the filter `keep` lets through while the body runs; `command` makes a command line of one for the right host."""
    argv = ["tcpdump", "-i", interface, "--time-stamp-precision=nano", "-s", "96", "-B", "65536", "-U", "-w", str(path), keep]
    with subprocess.Popen(command(argv), stderr=subprocess.PIPE, text=True) as dump:
        assert dump.stderr is not None
        while "listening" not in dump.stderr.readline():
            if dump.poll() is not None:
                raise SystemExit("tcpdump does not run here; `apt-get install tcpdump`")
        try:
            yield
            time.sleep(1.5)  # the capture is read in blocks; immediate mode would delay the very packets it stamps
        finally:
            dump.send_signal(signal.SIGINT)
            dump.communicate(timeout=30)


def packets(path: Path) -> Iterator[tuple[int, bytes]]:
    """Each packet of a nanosecond pcap file from its IP header on, with its time in ns; a cut-off end is left out."""
    data = path.read_bytes()
    skip = _SKIP[struct.unpack_from("<I", data, 20)[0]]
    offset = 24
    while offset + 16 <= len(data):
        seconds, nanoseconds, kept, _ = struct.unpack_from("<IIII", data, offset)
        if offset + 16 + kept > len(data):
            return
        yield seconds * 10**9 + nanoseconds, data[offset + 16 + skip : offset + 16 + kept]
        offset += 16 + kept


if __name__ == "__main__":
    pass  # `make bench` runs every file here
