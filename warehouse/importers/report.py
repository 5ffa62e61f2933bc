"""What became of the rows of imported files."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["ImportReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What became of the rows of all files: read = stored + already + skipped + the sum of rejected.

    already        stored before by an import of the same content
    skipped        left out by the row filter
    rejected       by reason; kept in the table reject
    flagged        stored, but marked: faster_than_light
    unknown_names  hosts that are at no known site, with the rows that name them; the first hundred
    """

    read: int
    stored: int
    already: int
    skipped: int
    rejected: dict[str, int]
    flagged: dict[str, int]
    unknown_names: dict[str, int] = field(default_factory=dict)
