"""The agent's own secret: a file that only its owner can read, and beside it the one that follows while it is being replaced.

``token`` holds the secret in use. ``token.next`` is there from before the collector is told of it until the collector has
taken it once: whatever ends in between, one of the two is valid, and the agent tries both (probes/client.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from probes.segment import fsync_folder
from records.errors import ConfigError, OutsideError

__all__ = ["SecretFile", "digest", "is_credential"]


def digest(secret: str) -> str:
    """SHA-256 of a secret, in hexadecimal: all that a collector is told of it."""
    return sha256(secret.encode("ascii")).hexdigest()


class SecretFile:
    """A secret on disk. Texts and errors never carry it; `key` names it in messages."""

    def __init__(self, path: Path, *, key: str = "collector.token_file") -> None:
        self.path, self._key = path, key
        self._next = path.with_name(f"{path.name}.next")

    def read(self) -> str:
        """The secret in use. Raises ConfigError when it cannot be read, others can read it too, or it is no single word."""
        try:
            return self._read(self.path)
        except FileNotFoundError:
            raise ConfigError(f"{self._key} {self.path} is not there; `isochrone agent enroll` makes it") from None

    def next(self) -> str | None:
        """The secret that follows; None while none is under way. Raises ConfigError when it cannot be read."""
        try:
            return self._read(self._next)
        except FileNotFoundError:
            return None

    def prepare(self) -> str:
        """The secret that follows, on disk when it returns: the one of an attempt that was cut off, or a new one."""
        found = self.next()
        if found is None:
            found = secrets.token_urlsafe(32)
            self._write(self._next, found)
        return found

    def promote(self, secret: str) -> None:
        """The collector has taken `secret`, the one that follows: it is the one in use from now on. Again is the same."""
        if self.next() != secret:
            return  # another process was faster
        try:
            self._next.replace(self.path)
            fsync_folder(self.path.parent)
        except OSError as error:
            raise OutsideError(f"{self._key} {self.path} cannot be replaced: {error.strerror}") from error

    def drop_next(self) -> None:
        """Forget the secret that follows; the collector was never told of it, or has refused it."""
        with contextlib.suppress(FileNotFoundError):
            self._next.unlink()

    @contextlib.contextmanager
    def held(self) -> Iterator[bool]:
        """Whether this process alone changes the secret; False while another one does."""
        lock = self.path.with_name(f"{self.path.name}.lock")
        try:
            fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise OutsideError(
                f"{self._key} {self.path} cannot be written: {lock}: {error.strerror}; give a path in a folder of the agent's own"
            ) from error
        try:
            _give_to_owner_of(fd, self.path)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(fd)

    def _read(self, path: Path) -> str:
        try:
            with path.open(encoding="ascii") as file:
                if os.fstat(file.fileno()).st_mode & 0o077 and not is_credential(path):
                    raise ConfigError(
                        f"{self._key} {path} can be read by others; chmod 600 {path}, and replace the secret (`isochrone agent rotate`)"
                    )
                secret = file.read().strip()
        except FileNotFoundError:
            raise
        except UnicodeDecodeError:  # whose text would carry what was read
            raise ConfigError(f"{self._key} {path} must hold one token and nothing else") from None
        except OSError as error:
            raise ConfigError(f"{self._key} {path} cannot be read: {error.strerror}") from error
        if not secret or not all("!" <= character <= "~" for character in secret):  # no header can carry another
            raise ConfigError(f"{self._key} {path} must hold one token and nothing else")
        return secret

    def _write(self, path: Path, secret: str) -> None:
        draft: Path | None = None
        try:
            fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
            draft = Path(name)
            with os.fdopen(fd, "w", encoding="ascii") as file:
                _give_to_owner_of(file.fileno(), self.path)
                file.write(f"{secret}\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            fsync_folder(path.parent)
        except OSError as error:
            if draft is not None:
                draft.unlink(missing_ok=True)
            raise OutsideError(f"{self._key} {path} cannot be written: {error.strerror}") from error


def is_credential(path: Path) -> bool:
    """Whether systemd handed it over: the mode of such a file shows the mask of its access list, which names this unit alone."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and Path(str(folder)) in path.absolute().parents


def _give_to_owner_of(fd: int, path: Path) -> None:
    """What root makes stays readable for the agent, which is not root: it belongs to the file's owner, or its folder's."""
    if os.geteuid() == 0:
        owner = (path if path.exists() else path.parent).stat()
        os.fchown(fd, owner.st_uid, owner.st_gid)
