"""The bearer token of a target: from a file that only its owner can read, or from the environment. It is never shown."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from probes.model import Target
from records.errors import ConfigError

__all__ = ["read_key"]


def read_key(target: Target) -> str | None:
    """The token; None when the target names none. Read anew each time, so that it may change.

    Raises ConfigError, which never repeats any of it.
    """
    if target.api_key_file is not None and target.api_key_env is not None:
        raise ConfigError(f"target {target.site} has both api_key_file and api_key_env; give one of them")
    if target.api_key_file is not None:
        return _checked(
            _from_file(Path(target.api_key_file), target.site), f"the API key file {target.api_key_file} of target {target.site}"
        )
    if target.api_key_env is not None:
        key = os.environ.get(target.api_key_env)
        if key is None:
            raise ConfigError(
                f"the environment has no variable {target.api_key_env!r}, which is to hold the API key of target {target.site}"
            )
        return _checked(key, f"the environment variable {target.api_key_env} of target {target.site}")
    return None


def _from_file(path: Path, site: str) -> str:
    try:
        with path.open(encoding="ascii") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise ConfigError(f"the API key file {path} of target {site} can be read by others (mode {mode:04o}); chmod 600 {path}")
            return file.read(100_000)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not plain text"
        raise ConfigError(f"cannot read the API key file {path} of target {site}: {why}") from None


def _checked(text: str, where: str) -> str:
    key = text.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{where} must hold one token on one line")
    return key
