"""TLS of the collector: its certificate and key, read again when they are replaced, and the day it expires."""

from __future__ import annotations

import logging
import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

from cryptography import x509

from records.errors import ConfigError

__all__ = ["WARN_BEFORE", "Tls"]

log = logging.getLogger("isochrone.collector")

#: So long before it expires a certificate is warned of.
WARN_BEFORE = timedelta(days=14)


class Tls:
    """A certificate (chain) and its private key, both PEM; the key is its owner's alone and has no passphrase.

    Raises ConfigError when they cannot be used or do not belong together.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self.certificate, self.key = certificate, key
        self.expires_at = self._checked()
        self._seen = self._versions()
        self._is_faulty = False

    def refresh(self, context: ssl.SSLContext) -> None:
        """Use what replaced the files for new connections; what cannot be used is logged once, and the old one goes on."""
        versions = self._versions()
        if versions == self._seen:
            return
        try:
            self.expires_at = self._checked()  # in a context of its own: half of a replacement would spoil the one in use
            context.load_cert_chain(self.certificate, self.key, _no_passphrase)
        except (ConfigError, OSError) as error:
            if not self._is_faulty:
                log.error("%s; the certificate from before goes on", error)  # noqa: TRY400  no fault of ours
            self._is_faulty = True
            return
        self._seen, self._is_faulty = versions, False
        log.info("certificate %s was read again; it expires at %s", self.certificate, self.expires_at)

    def warning(self, now: datetime) -> str | None:
        """What to say of an expiry that is near or past; None while it is far."""
        left = self.expires_at - now
        if left > WARN_BEFORE:
            return None
        if left <= timedelta(0):
            return f"the certificate {self.certificate} expired at {self.expires_at:%Y-%m-%dT%H:%M:%SZ}; agents refuse it"
        return f"the certificate {self.certificate} expires in {left.days} days, at {self.expires_at:%Y-%m-%dT%H:%M:%SZ}"

    def _versions(self) -> list[tuple[int, int]]:
        try:
            return [(status.st_ino, status.st_mtime_ns) for status in (self.certificate.stat(), self.key.stat())]
        except OSError:
            return []

    def _checked(self) -> datetime:
        """The certificate's end, once certificate and key have proved to be usable."""
        try:
            if self.key.stat().st_mode & 0o077 and not _is_credential(self.key):
                raise ConfigError(f"key file {self.key} can be read by others; chmod 600 {self.key}")
            first = x509.load_pem_x509_certificates(self.certificate.read_bytes())[0]
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(self.certificate, self.key, _no_passphrase)
        except ssl.SSLError as error:
            said = "do not belong together" if "MISMATCH" in str(error) else f"cannot be used: {error.reason}"
            raise ConfigError(f"certificate {self.certificate} and key {self.key} {said}") from None
        except OSError as error:
            raise ConfigError(f"certificate {self.certificate} and key {self.key}: {error.strerror or error}") from None
        except ValueError:
            raise ConfigError(f"certificate {self.certificate} is not PEM") from None
        return first.not_valid_after_utc.astimezone(UTC)


def _is_credential(path: Path) -> bool:
    """Whether systemd handed it over: the mode of such a file shows the mask of its access list, which names this unit alone."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and Path(str(folder)) in path.absolute().parents


def _no_passphrase() -> NoReturn:
    """Instead of asking at the terminal."""
    raise OSError(os.EX_CONFIG, "the key has a passphrase; give one without")
