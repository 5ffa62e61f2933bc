"""Words that several kinds of measurements use, apart from the records so that an engine starts without those."""

from __future__ import annotations

from typing import Literal

__all__ = ["MEDIA", "FailureSource", "Medium", "TsSource"]

#: What joins two sites.
Medium = Literal["internet", "backbone", "direct-connect"]
MEDIA: tuple[Medium, ...] = ("internet", "backbone", "direct-connect")

#: How an RTT was timed: kernel stamps on both ends, on receive only, by the application's clock, or by the
#: kernel's TCP stack. Only the first two are free of the scheduler's delays.
TsSource = Literal["kernel_txrx", "kernel_rx", "user", "tcp_info"]

#: Whose failure it was, as far as one end can tell: the name service, the network between, the other end, this host.
FailureSource = Literal["resolver", "path", "target", "agent"]
