"""The configurations that agents may have: a folder of signed documents, and the key they are signed with. The collector hands them on
as they are; it holds no key to sign with, and an agent takes nothing from it that an operator has not signed.

::

    FOLDER/key.pub           PEM of the Ed25519 key that agents pin at their enrolment
    FOLDER/0000000007.json   a signed configuration (records/pushed.py), named by its generation; none is ever replaced
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
import threading
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from records.errors import ConfigError, NoAnswer, OutsideError, UserError
from records.pushed import MAX_PUSHED_BYTES, Pushed, Signed

__all__ = ["KEY", "Publication", "Publications", "make_key", "sign"]

log = logging.getLogger("isochrone.collector")

KEY = "key.pub"
_NAME = re.compile(r"[0-9]{10,16}\.json")


def make_key(path: Path) -> str:
    """Make the key to sign with in a new file (mode 0600); the PEM of its public half. Raises UserError and OutsideError."""
    key = Ed25519PrivateKey.generate()
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise UserError(f"{path} is there already; agents that pinned its key take no other, so it is not written over") from None
    except OSError as error:
        raise OutsideError(f"cannot write {path}: {error.strerror}") from error
    return _public_text(key.public_key())


def sign(pushed: Pushed, key_file: Path) -> tuple[bytes, str]:
    """The signed document, and the PEM of the key that it can be verified with. Raises ConfigError for the key's file."""
    key = _private(key_file)
    payload = pushed.payload()
    signed = Signed(payload=payload, signature=key.sign(Signed(payload=payload, signature=b"").message()))
    return signed.encode(), _public_text(key.public_key())


def _private(path: Path) -> Ed25519PrivateKey:
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"key file {path} can be read by others; chmod 600 {path}")
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise ConfigError(f"key file {path}: {error.strerror}; `isochrone agent config key` makes one") from None
    except (TypeError, ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"key file {path} is no PEM of an Ed25519 key without a passphrase")
    return key


def _public_text(key: Ed25519PublicKey) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def _public(text: str, path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(text.encode("utf-8"))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path} is no PEM of an Ed25519 public key")
    return key


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A configuration as it is handed on, whose signature is good; digest: first digits of its SHA-256."""

    generation: int
    agent: str | None
    site: str | None
    audience: str
    made_at: datetime
    size_bytes: int
    document: bytes
    digest: str


class Publications:
    """The folder, read again whenever it changes; what is in it and cannot be used is named in the log, once, and handed to nobody."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] = ()
        self._key: str | None = None
        self._all: list[Publication] = []
        self._troubles: set[str] = set()

    @property
    def key(self) -> str | None:
        """PEM of the key that agents pin; None: there is none yet."""
        self.all()
        return self._key

    def all(self) -> list[Publication]:
        """Every configuration, the newest first."""
        with self._lock:
            seen = self._version()
            if seen != self._seen:
                self._read()
                self._seen = seen
            return self._all

    def newest(self, agent: str, site: str | None) -> Publication | None:
        """The newest that names an agent; None where there is none."""
        for entry in self.all():
            if entry.agent in {None, agent} and entry.site in {None, site}:
                return entry
        return None

    def put_key(self, text: str) -> None:
        """Have agents pin this key from now on. Raises UserError where there is another one, ConfigError, OutsideError."""
        key = _public_text(_public(text, self.folder / KEY))
        if self.key not in {None, key}:
            raise UserError(f"{self.folder / KEY} is another key, which agents have pinned; see docs/security.md before you replace it")
        if self.key is None:
            self._write(KEY, key.encode("ascii"))

    def put(self, document: bytes) -> Publication:
        """Publish a signed document; on disk when it returns.

        Raises ConfigError when it cannot be used, NoAnswer when its generation is not the newest, OutsideError.
        """
        if self.key is None:
            raise ConfigError(f"there is no {self.folder / KEY}; `isochrone agent config key --configs {self.folder}` puts it there")
        entry = self._checked(document, "the document")
        newest = max((known.generation for known in self.all()), default=0)
        if entry.generation <= newest:
            raise NoAnswer(f"generation {entry.generation} is not newer than {newest}, which is published; sign it again with a higher one")
        self._write(f"{entry.generation:010d}.json", document)
        return entry

    def next_generation(self) -> int:
        """One more than the newest."""
        return max((known.generation for known in self.all()), default=0) + 1

    def _version(self) -> tuple[int, ...]:
        found = []
        for path in (self.folder, self.folder / KEY):
            try:
                status = path.stat()
            except OSError:
                found += [0, 0]
            else:
                found += [status.st_ino, status.st_mtime_ns]
        return tuple(found)

    def _read(self) -> None:
        troubles: set[str] = set()
        self._key, self._all = None, []
        try:
            names = sorted((path.name for path in self.folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)
            if (self.folder / KEY).exists():
                self._key = _public_text(_public((self.folder / KEY).read_text(encoding="utf-8", errors="replace"), self.folder / KEY))
        except FileNotFoundError:
            names = []  # nothing was published yet
        except (OSError, ConfigError) as error:
            names = []
            troubles.add(f"configurations of {self.folder}: {error}")
        for name in names:
            try:
                with (self.folder / name).open("rb") as file:
                    self._all.append(self._checked(file.read(2 * MAX_PUSHED_BYTES + 1), str(self.folder / name)))
            except (OSError, ConfigError) as error:
                troubles.add(f"{error}; it is handed to nobody")
        self._all.sort(key=lambda entry: entry.generation, reverse=True)
        for trouble in sorted(troubles - self._troubles):
            log.error("%s", trouble)
        self._troubles = troubles

    def _checked(self, document: bytes, what: str) -> Publication:
        try:
            signed = Signed.of(document)
            _public(self._key or "", self.folder / KEY).verify(signed.signature, signed.message())
            pushed = Pushed.of(signed.payload)
        except InvalidSignature:
            raise ConfigError(f"{what} is not signed with the key of {self.folder / KEY}") from None
        except ConfigError as error:
            raise ConfigError(f"{what}: {error}") from None
        return Publication(
            generation=pushed.generation,
            agent=pushed.agent,
            site=pushed.site,
            audience=pushed.audience,
            made_at=pushed.made_at,
            size_bytes=len(document),
            document=document,
            digest=sha256(document).hexdigest()[:8],
        )

    def _write(self, name: str, content: bytes) -> None:
        """A new file, whole; of two that write the same name one is told that it is taken."""
        draft: Path | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            fd, made = tempfile.mkstemp(prefix=".", dir=self.folder)
            draft = Path(made)
            with os.fdopen(fd, "wb") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, self.folder / name)
            folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except FileExistsError:
            raise NoAnswer(f"{self.folder / name} was published by somebody else at this moment; publish again") from None
        except OSError as error:
            raise OutsideError(f"cannot write to {self.folder}: {error.strerror}") from error
        finally:
            if draft is not None:
                with contextlib.suppress(OSError):
                    draft.unlink()
