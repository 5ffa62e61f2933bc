"""Two clocks that are apart: an agent's, which dated its lines, and the collector's, which judges them.

What is dated later than `MAX_AHEAD_NS` after its receipt, or `MAX_BEHIND_NS` before it, lies outside of every window that anybody asks for.
One of the two clocks is wrong then, and nobody here knows which. An agent says what its clock shows as it sends, and how far it was set
since:

* While its clock is that far off nothing of it is taken (425, RFC 8470): it waits in the agent's spool until one of the clocks is mended.
* Once they agree, lines that the clock had dated that far off before it was set are dated anew, by how far it was set. Nothing less is
  moved forward: a host that stood still for hours (a virtual machine that was suspended) is set forward too, and what it measured before
  was dated rightly.

Lines of an agent that says neither are judged one by one (`from_the_future`, `too_old`, see warehouse.ingest).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from records.batch import HEADER_CLOCK_SET, HEADER_SENT_AT
from records.units import DAY, SECOND
from warehouse.refusal import Refusal

__all__ = ["MAX_AHEAD_NS", "MAX_BEHIND_NS", "NUMBER", "redating_ns"]

MAX_AHEAD_NS = 600 * SECOND
#: An agent may have been cut off for as long, and hours are kept for as long. A clock that is further behind has lost its battery.
MAX_BEHIND_NS = 400 * DAY
NUMBER = re.compile(r"-?[0-9]{1,19}")
#: 146 years: a time moved by so much still is a number of 64 bits.
_MOST_NS = 1 << 62
_RETRY_AFTER_S = 10


def redating_ns(headers: Mapping[str, str], received_ns: int) -> int:
    """By how much the lines of a request are to be moved in time, ns.

    received_ns   Unix time of the collector's clock as the request came

    Raises Refusal 425 while the sender's clock is too far off. A header that is no number says nothing here: the batch is refused for it
    when its name is read.
    """
    sent_at_ns, clock_set_ns = _whole(headers, HEADER_SENT_AT), _whole(headers, HEADER_CLOCK_SET) or 0
    if sent_at_ns is None:
        return 0
    ahead_ns = sent_at_ns - received_ns
    if not _is_taken(ahead_ns):
        most, way = (f"{MAX_AHEAD_NS // SECOND} s", "ahead of") if ahead_ns > 0 else (f"{MAX_BEHIND_NS // DAY} days", "behind")
        said = f"the agent's clock is {abs(ahead_ns) // SECOND} s {way} the collector's, and at most {most} are taken"
        what = "what it measured waits in its spool until whichever clock is wrong is set (chronyc makestep, timedatectl)"
        raise Refusal(425, "clock_off", f"{said}; {what}", **{"Retry-After": str(_RETRY_AFTER_S)})
    before_ns = ahead_ns - clock_set_ns
    is_mended = not _is_taken(before_ns) and (clock_set_ns < 0) == (before_ns > 0)
    return max(-_MOST_NS, min(_MOST_NS, clock_set_ns)) if is_mended else 0


def _is_taken(ahead_ns: int) -> bool:
    return -MAX_BEHIND_NS <= ahead_ns <= MAX_AHEAD_NS


def _whole(headers: Mapping[str, str], name: str) -> int | None:
    text = headers.get(name, "")
    return int(text) if NUMBER.fullmatch(text) else None
