"""Where a warehouse is: a folder (embedded), or a DuckLake address (scale-out: catalog in PostgreSQL, Parquet in S3 or a folder).

An address is ``ducklake:postgres:`` and libpq's own keywords, with one of ours beside them::

    ducklake:postgres:dbname=isochrone host=db.example user=isochrone data_path=s3://isochrone/data

The catalog remembers its data path, so that only the first who opens it must name it. Nothing secret is part of an address, for an
address is shown, logged and kept: PostgreSQL's password comes from PGPASSWORD or ~/.pgpass, the keys of S3 from the variables that
every S3 tool reads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from records.errors import UserError

__all__ = ["CATALOG", "DATA", "Place", "identifier", "place", "quoted", "s3_secret", "s3_settings"]

CATALOG = "catalog.sqlite"
DATA = "data"
_PREFIX = "ducklake:postgres:"
_EXAMPLE = "ducklake:postgres:dbname=isochrone host=db.example user=isochrone data_path=s3://BUCKET/data"
#: One keyword of libpq: a bare value, or one in single quotes in which \' and \\ stand for themselves.
_KEYWORD = re.compile(r"\s*(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|([^\s']\S*))\s*")
_SECRET = frozenset({"password", "sslpassword"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a warehouse is.

    address    as a person gives it, and as it is shown
    folder     the folder of an embedded one; None: it is scaled out
    catalog    libpq keywords of a scaled-out one's catalog, else empty
    data_path  where Parquet files are, ending in a slash; None: the catalog says so
    """

    address: str
    folder: Path | None
    catalog: str
    data_path: str | None

    @property
    def is_s3(self) -> bool:
        """Whether its files are in S3-compatible storage, as far as the address says."""
        return self.data_path is not None and self.data_path.startswith("s3://")


def place(location: str | Path) -> Place:
    """The place that a person named.

    Raises UserError for an address that cannot be one.
    """
    text = str(location)
    if not text.startswith("ducklake:"):
        path = Path(location).expanduser().absolute()
        return Place(str(path), path, "", f"{path / DATA}/")
    if text.startswith("ducklake:sqlite:") or not text.startswith(_PREFIX):
        raise UserError(f"--warehouse {text}: a scaled-out warehouse is {_EXAMPLE}; an embedded one is named by its folder")
    words = _keywords(text)
    data_path = words.pop("data_path", None)
    if data_path is not None:
        data_path = _data_path(data_path)
    words.setdefault("application_name", "isochrone")
    words.setdefault("connect_timeout", "10")
    catalog = " ".join(f"{key}={_libpq(value)}" for key, value in words.items())
    return Place(text, None, catalog, data_path)


def _keywords(text: str) -> dict[str, str]:
    rest, at, words = text[len(_PREFIX) :], 0, {}
    while at < len(rest):
        match = _KEYWORD.match(rest, at)
        if match is None:
            raise UserError(f"--warehouse {text}: {rest[at:]!r} is not KEYWORD=VALUE, as in {_EXAMPLE}")
        key = match[1].lower()
        if key in _SECRET:
            raise UserError(f"--warehouse: leave {key} out of the address, which is shown and logged; put it into PGPASSWORD or ~/.pgpass")
        words[key] = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
        at = match.end()
    if not words.get("dbname") and "service" not in words:
        raise UserError(f"--warehouse {text}: dbname is missing, as in {_EXAMPLE}")
    return words


def _libpq(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _data_path(text: str) -> str:
    """A data path as DuckLake keeps it: s3://BUCKET/..., or an absolute folder; with a slash at the end."""
    if text.startswith("s3://"):
        if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+(/[^?*\[\]]*)?", text):
            raise UserError(f"data_path={text} is not s3://BUCKET/PREFIX, as in s3://isochrone/data")
    elif "://" in text or not text.startswith("/"):
        raise UserError(f"data_path={text} is neither s3://BUCKET/PREFIX nor an absolute folder that every collector and reader can see")
    return text.rstrip("/") + "/"


def quoted(text: object) -> str:
    """A text as a literal of SQL."""
    return "'" + str(text).replace("'", "''") + "'"


def identifier(name: object) -> str:
    """A name as an identifier of SQL, whatever letters it has: names of tables and columns come from catalogs, which others can write."""
    return '"' + str(name).replace('"', '""') + '"'


def s3_secret() -> str:
    """The statement that gives DuckDB the keys of S3, by the variables that every S3 tool reads.

    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION or AWS_DEFAULT_REGION, and AWS_ENDPOINT_URL_S3 or
    AWS_ENDPOINT_URL for a storage that is not Amazon's. Raises UserError when keys are missing or the endpoint is no URL.
    """
    values = {"KEY_ID": os.environ.get("AWS_ACCESS_KEY_ID", ""), "SECRET": os.environ.get("AWS_SECRET_ACCESS_KEY", "")}
    if not all(values.values()):
        raise UserError("the warehouse's files are in S3, and its keys are missing; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if token := os.environ.get("AWS_SESSION_TOKEN"):
        values["SESSION_TOKEN"] = token
    options = "".join(f", {key} {quoted(value)}" for key, value in values.items())
    options += "".join(f", {name.removeprefix('s3_').upper()} {value}" for name, value in s3_settings(os.environ).items())
    return f"CREATE SECRET IF NOT EXISTS isochrone_s3 (TYPE s3, PROVIDER config{options})"


def s3_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """What is no secret about S3, by the name of DuckDB's setting, as literals of SQL.

    Raises UserError when the endpoint is no URL.
    """
    found = {"s3_region": quoted(environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1")}
    if endpoint := environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL"):
        url = urlsplit(endpoint)
        if url.scheme not in {"http", "https"} or not url.netloc:
            raise UserError(f"AWS_ENDPOINT_URL {endpoint!r} is no address such as https://s3.example:9000")
        found |= {"s3_endpoint": quoted(url.netloc), "s3_url_style": "'path'", "s3_use_ssl": str(url.scheme == "https").lower()}
    return found
