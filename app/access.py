"""Who may see the pages, and who may ask in SQL: a sign-in by OpenID Connect and two roles, from one TOML file.

Without a file the dashboard is for whoever reaches it, and it listens on loopback only. With one, nobody sees a number before the
provider has said who he is, and the file what he may do:

    [auth]                      # as Streamlit takes it
    redirect_uri = "https://isochrone.example.net/oauth2callback"
    cookie_secret = "..."       # 32 characters or more
    client_id = "..."
    client_secret = "..."
    server_metadata_url = "https://id.example.net/.well-known/openid-configuration"

    [roles]
    analyst = ["*@noc.example.net"]   # all pages, SQL too
    reader = ["*@example.net"]        # all pages but SQL

The file holds secrets and must be readable by its owner alone. Nothing of it is ever shown.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from records.errors import ConfigError

__all__ = ["ENVIRONMENT", "ROLES", "Access", "Role", "configured", "read_access", "role_of"]

Role = Literal["analyst", "reader"]
#: The roles, from the one that may do most.
ROLES: tuple[Role, ...] = ("analyst", "reader")
#: Where the pages find the file.
ENVIRONMENT = "ISOCHRONE_ACCESS"

_AUTH = ("redirect_uri", "cookie_secret", "client_id", "client_secret", "server_metadata_url")
_LEAST_SECRET = 32


@dataclass(frozen=True, slots=True)
class Access:
    """Role -> patterns of e-mail addresses (shell wildcards, case ignored)."""

    patterns: Mapping[Role, tuple[str, ...]]


def read_access(path: Path) -> Access:
    """Read an access file.

    Raises ConfigError when it cannot be read, is open to others, or lacks what a sign-in needs. No value of it is in a message.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"access file {path} can be read by others and holds secrets; chmod 600 {path}")
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"access file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"access file {path} is not TOML; see docs/dashboard.md for one to start from") from error
    auth, roles = document.get("auth"), document.get("roles")
    if not isinstance(auth, dict):
        raise ConfigError(f"access file {path} has no [auth]; it takes {', '.join(_AUTH)}")
    missing = [name for name in _AUTH if not isinstance(auth.get(name), str) or not auth[name]]
    if missing:
        raise ConfigError(f"access file {path}: [auth] lacks {', '.join(missing)}; it takes {', '.join(_AUTH)}")
    if len(auth["cookie_secret"]) < _LEAST_SECRET:
        raise ConfigError(f"access file {path}: cookie_secret has fewer than {_LEAST_SECRET} characters; `openssl rand -hex 32` makes one")
    if not isinstance(roles, dict) or not roles:
        raise ConfigError(f'access file {path} has no [roles]; give some, as in reader = ["*@example.net"]')
    strange = sorted(set(roles) - set(ROLES))
    if strange:
        raise ConfigError(f"access file {path}: [roles] has {strange[0]!r}; roles are {', '.join(ROLES)}")
    return Access({role: _patterns(roles.get(role, []), role, path) for role in ROLES})


def _patterns(given: Any, role: str, path: Path) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(one, str) and "@" in one for one in given):
        raise ConfigError(f'access file {path}: {role} must be a list of addresses such as ["*@example.net"]')
    return tuple(one.lower() for one in given)


def role_of(access: Access, claims: Mapping[str, Any]) -> Role | None:
    """What the bearer of these claims of an ID token may do; None: nothing.

    An address that its provider says is not verified counts for nothing.

    >>> access = Access({"analyst": ("*@noc.net",), "reader": ("*@net.net",)})
    >>> role_of(access, {"email": "a@NOC.net"}), role_of(access, {"email": "b@net.net"}), role_of(access, {"email": "c@other"})
    ('analyst', 'reader', None)
    >>> role_of(access, {"email": "a@noc.net", "email_verified": False}) is None
    True
    """
    email = claims.get("email")
    if not isinstance(email, str) or claims.get("email_verified") is False:
        return None
    return next((role for role in ROLES if any(fnmatchcase(email.lower(), pattern) for pattern in access.patterns.get(role, ()))), None)


@lru_cache(maxsize=2)
def _read(path: str) -> Access:
    return read_access(Path(path))


def configured() -> Access | None:
    """The access file named in the environment; None where there is none. Read once: a change needs a restart."""
    path = os.environ.get(ENVIRONMENT)
    return _read(path) if path else None
