"""A self-signed certificate for development: what `streambroker cert` writes.

Only that command imports this, for cryptography is an extra.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CERT_FILE, KEY_FILE = "cert.pem", "key_nopass.pem"
ALWAYS = ("localhost", "127.0.0.1", "::1")
"""The names and addresses that every pair is good for."""

_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_DNS_NAME = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*").fullmatch
_CLOCKS_DIFFER = datetime.timedelta(hours=1)
_SUBJECT = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "streambroker, self-signed")])


class AlreadyThere(Exception):
    """A file that would be written exists, and nothing was changed."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What was written: two files, what they are good for and until when; the fingerprint is SHA-256."""

    cert_file: Path
    key_file: Path
    names: tuple[str, ...]
    not_after: datetime.datetime
    fingerprint: str


def is_name(name: str) -> bool:
    """Whether a certificate can be made out to it: an address, a DNS name, or ``*.`` and one."""
    return _is_address(name) or (len(name) <= 253 and _DNS_NAME(name) is not None)


def make(directory: Path, names: Sequence[str], days: int, now: datetime.datetime, *, replace: bool = False) -> Pair:
    """Make a key and a certificate for these names and `ALWAYS`, and write both into the directory.

    The key is readable by its owner only. Raises `AlreadyThere` for what exists, unless told to replace it, and
    `OSError` where it cannot write.
    """
    cert_file, key_file = directory / CERT_FILE, directory / KEY_FILE
    existing = [str(file) for file in (cert_file, key_file) if os.path.lexists(file)]
    if existing and not replace:
        raise AlreadyThere(f"there already: {' and '.join(existing)}")
    every = tuple(dict.fromkeys([*ALWAYS, *names]))
    not_after = (now + datetime.timedelta(days=days)).replace(microsecond=0)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _self_signed(key, every, now - _CLOCKS_DIFFER, not_after)
    pem, without_passphrase = serialization.Encoding.PEM, serialization.NoEncryption()
    directory.mkdir(parents=True, exist_ok=True)
    _write(key_file, key.private_bytes(pem, serialization.PrivateFormat.PKCS8, without_passphrase), 0o600)
    _write(cert_file, certificate.public_bytes(pem), 0o644)
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex(":").upper()
    return Pair(cert_file, key_file, every, not_after, fingerprint)


def _self_signed(
    key: ec.EllipticCurvePrivateKey, names: Sequence[str], not_before: datetime.datetime, not_after: datetime.datetime
) -> x509.Certificate:
    """A server's certificate (RFC 5280) that is its own issuer, and nobody else's.

    Whoever trusts it trusts this one server: it is no authority, and its key can make no other certificate.
    """
    public = key.public_key()
    builder = x509.CertificateBuilder(_SUBJECT, _SUBJECT, public, x509.random_serial_number(), not_before, not_after)
    for extension, critical in (
        (x509.SubjectAlternativeName([_general_name(name) for name in names]), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_SIGNS_HANDSHAKES, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectKeyIdentifier.from_public_key(public), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False),
    ):
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, hashes.SHA256())


_SIGNS_HANDSHAKES = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def _general_name(name: str) -> x509.GeneralName:
    return x509.IPAddress(ipaddress.ip_address(name)) if _is_address(name) else x509.DNSName(name)


def _write(file: Path, content: bytes, mode: int) -> None:
    """A new file that has this mode from its first moment on, in place of what may be there."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
        stream.write(content)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
