"""What DuckDB says of a world that does not answer, in one sentence each: files, PostgreSQL, S3.

DuckDB tells these apart by its text only; the patterns are those of the pinned version, and tests provoke each of them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import duckdb

from records.errors import IsochroneError, NotPermitted, OutsideError, UserError, WarehouseAway
from warehouse.place import Place

__all__ = ["away", "first_line", "opening_fault", "outside", "reported", "unreadable"]

_VERSIONS = re.compile(r"catalog version is (\S+?),? but the extension requires version (\S+?)\.? ")
_MISSING_DATABASE = re.compile(r'database "([^"]*)" does not exist')
_KEYS = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they are allowed"
_HTTP = re.compile(r"HTTP (?:GET|HEAD|PUT|POST|DELETE|Error)|error for HTTP")
#: SQLite's words, and DuckLake's about it, of a catalog that cannot be used now: a disk that is full or fails, a lock, a file gone. They
#: come as errors of no particular class.
_SQLITE = re.compile(
    r"disk I/O error|database or disk is full|database is locked|database table is locked|unable to open database"
    r"|attempt to write a readonly database|database disk image is malformed|Failed to query most recent snapshot",
    re.IGNORECASE,
)
_POSTGRES = re.compile(
    r"unable to connect to postgres|server closed the connection|terminating connection|connection to server|no connection to the server"
    r"|the database system is|could not (?:connect|receive|send)|SSL SYSCALL|Failed to .*(?:COPY|query).*connection",
    re.IGNORECASE,
)


def first_line(error: BaseException) -> str:
    """The first line of what DuckDB says, without its banner."""
    return re.sub(r"^(?:[A-Z][A-Za-z/ ]*Error: )+", "", str(error).strip().partition("\n")[0], count=1)


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """DuckDB's errors about a world that does not answer come out as `outside` says them."""
    try:
        yield
    except duckdb.Error as error:
        fault = outside(error)
        if fault is None:
            raise
        try:
            raise fault from error
        finally:
            # An error and a frame that it passed through would hold each other, and with them all that a transaction was to store,
            # until Python looks for such rings: with millions of objects that live long, hours.
            del fault


def outside(error: duckdb.Error) -> OutsideError | None:
    """The error of a statement as one of PostgreSQL, of S3, of an embedded catalog, or of a file of the warehouse; None: none of these."""
    if (fault := away(error)) is not None:
        return fault
    if found := _SQLITE.search(str(error)):
        return WarehouseAway(
            f"the warehouse's catalog cannot be used: {found[0]}; nothing is lost, try again when its disk has room and answers"
        )
    return unreadable(error)


def away(error: duckdb.Error) -> OutsideError | None:
    """The error of a statement as one of PostgreSQL or S3, which do not answer or refuse; None: it is not."""
    said = first_line(error)
    if "Content-Length from server mismatches" in said:
        return None
    if isinstance(error, duckdb.HTTPException) or _HTTP.search(said):
        if re.search(r"\b(401|403)\b|Forbidden|AccessDenied|SignatureDoesNotMatch|InvalidAccessKey", str(error)):
            return NotPermitted(f"the S3 storage refuses the keys: {said}; {_KEYS}")
        if not re.search(r"\b404\b|NoSuchKey|NoSuchBucket", str(error)):
            return OutsideError(f"the S3 storage does not answer: {said}; nothing is lost, try again when it is back")
    elif "permission denied for" in str(error):
        return NotPermitted(f"PostgreSQL does not let this role write: {_denied(error)}; use the role that owns the warehouse")
    elif _POSTGRES.search(str(error)):
        return WarehouseAway(f"the warehouse's catalog does not answer: {said}; nothing is lost, try again when PostgreSQL is back")
    return None


def _denied(error: duckdb.Error) -> str:
    """PostgreSQL's own words, which DuckLake puts behind the statement that it sent."""
    match = re.search(r"permission denied for [\w ]+", str(error))
    return match[0] if match else first_line(error)


def unreadable(error: duckdb.Error) -> OutsideError | None:
    """The error of a query as one about a Parquet file of the warehouse, missing, half written or none; None: it is not."""
    said = first_line(error)
    is_shorter = "Content-Length from server mismatches" in said  # than the catalog says
    if not isinstance(error, duckdb.IOException | duckdb.InvalidInputException) or not (".parquet" in said or is_shorter):
        return None
    return OutsideError(
        "a file of the warehouse cannot be read; `isochrone warehouse verify` names every one, and a copy of the folder "
        f"brings it back: {said}"
    )


def opening_fault(place: Place, error: duckdb.Error) -> IsochroneError:
    """Why a warehouse could not be opened."""
    said = first_line(error)
    if mismatch := _VERSIONS.search(said):
        return UserError(
            f"the warehouse at {place.address} has a catalog of DuckLake {mismatch[1]}, and this version of isochrone reads "
            f"{mismatch[2]}; install the version of isochrone that made it, or a newer one"
        )
    if place.folder is not None:
        return OutsideError(f"cannot open the warehouse {place.address}: {said}")
    if missing := _MISSING_DATABASE.search(str(error)):
        return UserError(f"there is no database {missing[1]!r} for the warehouse {place.address}; deploy/postgres.sql makes it")
    if re.search(r"authentication failed|no password supplied|pg_hba|role \".*\" does not exist|permission denied", str(error)):
        return NotPermitted(f"PostgreSQL refuses the warehouse {place.address}: {said}; check user, PGPASSWORD and ~/.pgpass")
    if re.search(r"NoSuchBucket|\b404\b", str(error)):
        return UserError(f"the warehouse {place.address} has no such bucket: {said}; make it, or name another data_path")
    fault = outside(error)
    return (
        OutsideError(f"cannot open the warehouse {place.address}: {said}")
        if fault is None
        else type(fault)(f"cannot open the warehouse {place.address}: {fault}")
    )
