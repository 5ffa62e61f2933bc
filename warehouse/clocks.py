"""Two clocks that are apart: an agent's, which dated its lines, and the collector's, which judges them.

What is dated later than `MAX_AHEAD_NS` after its receipt lies outside of every window that anybody asks for. One of the two clocks is
wrong then, and nobody here knows which. An agent says what its clock shows as it sends, and how far it was set since:

* While its clock is that far ahead nothing of it is taken (425, RFC 8470): it waits in the agent's spool until one of the clocks is mended.
* Once they agree, lines that the clock had dated that far ahead before it was set back are dated anew, by how far it was set. Only
  backwards: a host that stood still for hours (a virtual machine that was suspended) is set forward, and what it measured before was right.

Lines of an agent that says neither are judged one by one (`from_the_future`, see warehouse.ingest).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from records.batch import HEADER_CLOCK_SET, HEADER_SENT_AT
from records.units import SECOND
from warehouse.refusal import Refusal

__all__ = ["MAX_AHEAD_NS", "NUMBER", "redating_ns"]

#: There is no limit the other way: an agent may have been cut off for weeks.
MAX_AHEAD_NS = 600 * SECOND
NUMBER = re.compile(r"-?[0-9]{1,19}")
#: 146 years: a time moved by so much still is a number of 64 bits.
_MOST_NS = 1 << 62
_RETRY_AFTER_S = 10


def redating_ns(headers: Mapping[str, str], received_ns: int) -> int:
    """By how much the lines of a request are to be moved in time, ns: 0, or less.

    received_ns   Unix time of the collector's clock as the request came

    Raises Refusal 425 while the sender's clock is too far ahead. A header that is no number says nothing here: the batch is refused for it
    when its name is read.
    """
    sent_at_ns, clock_set_ns = _whole(headers, HEADER_SENT_AT), _whole(headers, HEADER_CLOCK_SET) or 0
    if sent_at_ns is None:
        return 0
    ahead_ns = sent_at_ns - received_ns
    if ahead_ns > MAX_AHEAD_NS:
        said = f"the agent's clock is {ahead_ns // SECOND} s ahead of the collector's, and at most {MAX_AHEAD_NS // SECOND} s are taken"
        what = "what it measured waits in its spool until whichever clock is wrong is set (chronyc makestep, timedatectl)"
        raise Refusal(425, "clock_ahead", f"{said}; {what}", **{"Retry-After": str(_RETRY_AFTER_S)})
    return max(clock_set_ns, -_MOST_NS) if ahead_ns - clock_set_ns > MAX_AHEAD_NS and clock_set_ns < 0 else 0


def _whole(headers: Mapping[str, str], name: str) -> int | None:
    text = headers.get(name, "")
    return int(text) if NUMBER.fullmatch(text) else None
