"""An authority of one's own and a certificate of the collector by it: for a lab, or where no other authority is to be had.

Keys are ECDSA on P-256. What is made passes Python's own strict check (RFC 5280: key identifiers, key usage, constraints).
"""

from __future__ import annotations

import ipaddress
import os
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from records.errors import ConfigError, OutsideError

__all__ = ["make_certificate"]

_CA_DAYS = 3650
#: A clock that is a little behind does not make a new certificate one of the future.
_EARLIER = timedelta(hours=1)


def make_certificate(folder: Path, names: list[str], *, days: int, now: datetime) -> dict[str, Path]:
    """Write ``server.pem`` and ``server.key`` for these host names and addresses, by the authority in ``ca.pem`` and ``ca.key``.

    The authority is made where there is none, and used again where there is one. Keys have mode 0600.

    Returns the four paths by name. Raises ConfigError when a name is none or the authority cannot be used, OutsideError
    when the folder cannot be written.
    """
    paths = {name: folder / name for name in ("ca.pem", "ca.key", "server.pem", "server.key")}
    subjects = [_subject(name) for name in names]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority, authority_key = _authority(paths["ca.pem"], paths["ca.key"], now)
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(
                _name(names[0]), authority.subject, key.public_key(), now, min(now + timedelta(days=days), authority.not_valid_after_utc)
            )
            .add_extension(x509.SubjectAlternativeName(subjects), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        )
        _write(paths["server.key"], _private(key), 0o600)
        _write(paths["server.pem"], _public(builder.sign(authority_key, hashes.SHA256())), 0o644)
    except OSError as error:
        raise OutsideError(f"cannot write {folder}: {error.strerror}") from error
    return paths


def _authority(certificate: Path, key: Path, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    if certificate.exists() or key.exists():
        try:
            known = x509.load_pem_x509_certificate(certificate.read_bytes())
            private = serialization.load_pem_private_key(key.read_bytes(), None)
        except (OSError, ValueError, TypeError):
            raise ConfigError(f"{certificate} and {key} cannot be used; move both away for a new authority") from None
        if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != known.public_key():
            raise ConfigError(f"{certificate} and {key} do not belong together; move both away for a new authority")
        if known.not_valid_after_utc <= now:
            raise ConfigError(f"{certificate} expired at {known.not_valid_after_utc:%Y-%m-%d}; move it and {key} away for a new authority")
        return known, private
    made = ec.generate_private_key(ec.SECP256R1())
    name = _name("Isochrone authority of a collector")
    builder = (
        _builder(name, name, made.public_key(), now, now + timedelta(days=_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(is_authority=True), critical=True)
    )
    signed = builder.sign(made, hashes.SHA256())
    _write(key, _private(made), 0o600)
    _write(certificate, _public(signed), 0o644)
    return signed, made


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    labels = name.split(".")
    if len(name) > 253 or not all(0 < len(label) < 64 and label.isascii() and label.replace("-", "a").isalnum() for label in labels):
        raise ConfigError(f"{name!r} is neither a host name nor an address; give one such as collector.example")
    return x509.DNSName(name)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _public(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write(path: Path, content: bytes, mode: int) -> None:
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    draft.replace(path)
