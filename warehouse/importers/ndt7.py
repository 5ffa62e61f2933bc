"""Results of M-Lab's ndt7, as its server archives them: a download or an upload over one TCP connection. Pure.

The rate is what the server's kernel counted at the last of its measurements: bytes acknowledged of a download, received of
an upload, over the time the connection was open (M-Lab's own definition of the mean throughput). The client is the source.
Source: https://github.com/m-lab/ndt-server/blob/main/spec/ndt7-protocol.md and tcp(7), TCP_INFO
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec

from records.measurement import ThroughputResult
from records.units import US
from warehouse.importers.found import Found, Given, Unfit, head, iso_ns, normal, read

__all__ = ["document"]

_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


class _TcpInfo(msgspec.Struct, rename="pascal"):
    elapsed_time: _Count = 0
    bytes_acked: _Count = 0
    bytes_received: _Count = 0
    rtt: _Count = msgspec.field(name="RTT", default=0)
    min_rtt: _Count = msgspec.field(name="MinRTT", default=0)
    total_retrans: _Count | None = None


class _Measurement(msgspec.Struct):
    tcp: _TcpInfo | None = msgspec.field(name="TCPInfo", default=None)
    bbr: dict[str, Any] | None = msgspec.field(name="BBRInfo", default=None)


class _Test(msgspec.Struct):
    start: str = msgspec.field(name="StartTime")
    measurements: list[_Measurement] | None = msgspec.field(name="ServerMeasurements", default=None)


class _Document(msgspec.Struct):
    client: str = msgspec.field(name="ClientIP")
    server: str = msgspec.field(name="ServerIP")
    version: str = msgspec.field(name="Version", default="")
    download: _Test | None = msgspec.field(name="Download", default=None)
    upload: _Test | None = msgspec.field(name="Upload", default=None)


def document(value: object, given: Given) -> Iterator[Found | Unfit]:
    """The tests of one result; raises Unfit."""
    result = read(value, _Document)
    if result.download is None and result.upload is None:
        raise Unfit("not_this_format", "there is neither a Download nor an Upload of ndt7 in it")
    if result.download is not None:
        yield _found(result, result.download, "down")
    if result.upload is not None:
        yield _found(result, result.upload, "up")


def _found(result: _Document, test: _Test, direction: Literal["up", "down"]) -> Found | Unfit:
    counted = [one for one in test.measurements or [] if one.tcp is not None]
    info = counted[-1].tcp if counted else None
    amount = 0 if info is None else info.bytes_acked if direction == "down" else info.bytes_received
    if info is None or not amount or not info.elapsed_time:
        return Unfit("no_bytes", "the server counted no bytes: the test ended before its first measurement")
    try:
        common = head(normal(result.server), iso_ns(test.start), f"ndt7/{result.version.removeprefix('v')}")
    except Unfit as fault:
        return fault
    record = ThroughputResult(
        **common,
        tool="ndt7",
        direction=direction,
        transferred_bytes=amount,
        duration_ns=info.elapsed_time * US,
        throughput_bps=round(amount * 8 * 1e6 / info.elapsed_time),
        stop_reason="time",
        # The server's counters say how often it sent a segment again, so not of an upload.
        retransmits=info.total_retrans if direction == "down" else None,
        tcp_rtt_ns=info.rtt * US or None,
        tcp_min_rtt_ns=info.min_rtt * US or None,
        congestion_control="bbr" if direction == "down" and counted[-1].bbr is not None else None,
    )
    return Found(record=record, src=(normal(result.client),), dst=(normal(result.server),))
