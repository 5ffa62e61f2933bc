"""The exceptions of the product, and the exit status each one ends a command with.

::

    IsochroneError
    +-- UserError            2  the user's mistake: argument, file, configuration
    |   +-- BadPlacement         a question of placement that cannot be meant: more sites than candidates, ...
    |   +-- BadRtt               a matrix or link with an RTT that cannot be one; also a ValueError
    |   +-- ConfigError
    |   +-- InputError          a file that cannot be read or does not say what it should (file:line)
    |   +-- UnknownSite
    |   +-- WarehouseMissing
    +-- NoAnswer             1  the question is sound and the answer is no
    |   +-- NoPlacement
    |   +-- NoRoute
    +-- OutsideError         3  something outside failed
        +-- CollectorUnreachable
        +-- NotPermitted        sockets, namespaces or devices closed to this user
        +-- ToolMissing
        +-- WarehouseAway       its catalog, or whoever holds it: nothing that was to be written is at fault

A message says what is wrong, the value, what is allowed and the next step; it starts lower case and ends
without a full stop. A lost packet is data, not an exception.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "BadPlacement",
    "BadRtt",
    "CollectorUnreachable",
    "ConfigError",
    "InputError",
    "IsochroneError",
    "NoAnswer",
    "NoPlacement",
    "NoRoute",
    "NotPermitted",
    "OutsideError",
    "ToolMissing",
    "UnknownSite",
    "UserError",
    "WarehouseAway",
    "WarehouseMissing",
]


class IsochroneError(Exception):
    """Root of every error this project raises on purpose; `exit_status` is what a command ends with."""

    exit_status = 3


class UserError(IsochroneError):
    """The user's mistake; one clear message, never a traceback."""

    exit_status = 2


class BadPlacement(UserError, ValueError):
    """A question of placement that cannot be meant: more sites than candidates, nobody to serve, no price for a site."""


class BadRtt(UserError, ValueError):
    """A matrix of RTTs, or a link, that cannot be one: NaN, negative, not square; says which and what to give instead."""


class ConfigError(UserError):
    """A configuration file or setting that is missing, malformed or out of range."""


class InputError(UserError):
    """A data file that cannot be used; names the file and, where there is one, the line (from 1)."""

    def __init__(self, path: object, line: int | None, problem: str) -> None:
        where = f"{path}:{line}" if line is not None else str(path)
        super().__init__(f"{where}: {problem}")
        self.path = str(path)
        self.line = line
        self.problem = problem


class UnknownSite(UserError):
    """A site id that neither the inventory nor the warehouse knows; proposes the nearest known ids."""

    def __init__(self, site: str, known: Iterable[str] = ()) -> None:
        near = get_close_matches(site, list(known), n=3, cutoff=0.5)
        hint = f"; did you mean {', '.join(near)}" if near else "; `isochrone inventory list pops` names them"
        super().__init__(f"unknown site {site!r}{hint}")
        self.site = site


class WarehouseMissing(UserError):
    """There is no warehouse at the given place."""


class NoAnswer(IsochroneError):
    """The question is sound and the answer is no: no route, a check that failed."""

    exit_status = 1


class NoPlacement(NoAnswer):
    """No choice of sites keeps the capacities or the spending given."""


class NoRoute(NoAnswer):
    """No sequence of usable links joins the two ends under the constraints given."""


class OutsideError(IsochroneError):
    """Something outside the program failed: network, disk, another process."""

    exit_status = 3


class CollectorUnreachable(OutsideError):
    """The collector did not answer, or answered with an error that retrying may mend."""


class NotPermitted(OutsideError):
    """The operating system refuses what is needed; the message says what to grant."""


class ToolMissing(OutsideError):
    """An external program or library that this action needs is not installed; the message says how to get it."""


class WarehouseAway(OutsideError):
    """Nothing can be written to the warehouse now, whatever it is: its catalog does not answer, or another process holds it."""
