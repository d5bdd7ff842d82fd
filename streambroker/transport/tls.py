"""TLS for the server: a certificate that can be changed while it runs, and what is wrong with one that cannot be used.

TLS 1.2 and 1.3, with ciphers that are forward secret and authenticated (RFC 9325); HTTP/1.1 is all that is spoken.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from streambroker.core.errors import ConfigError

log = logging.getLogger(__name__)

GOODBYE_S = 0.1
"""How long `end` waits for the peer, that whatever was written goes out."""
HSTS = ("strict-transport-security", "max-age=31536000")
"""The header that has browsers use TLS from now on (RFC 6797); a year, in seconds."""

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which `ssl` has no name for."""
_SOON_S = 14 * 86_400


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says. Times in seconds since 1970; `names` are DNS names in lower case, and addresses."""

    names: tuple[str, ...]
    serial: str
    not_before: float
    not_after: float
    self_signed: bool

    def covers(self, host: str) -> bool:
        """Whether clients that trust it accept it from a server that they call by this name or address."""
        name = _plain(host)
        return name in self.names or f"*.{name.partition('.')[2]}" in self.names


def end(transport: asyncio.Transport) -> None:
    """Close a connection for good.

    Under TLS `close` alone waits for the peer to end its side, which one that is hung or idle does not do before the
    server's time for it is over. What is unsent still has that time.
    """
    transport.close()
    asyncio.get_running_loop().call_later(GOODBYE_S, _cut, transport)


def _cut(transport: asyncio.Transport) -> None:
    if not transport.get_write_buffer_size():
        transport.abort()


class Tls:
    """The server's TLS: give `context` to whatever accepts connections.

    It owns the pair in use. Connections keep the certificate that they began with; `reload` changes it for new ones.
    """

    def __init__(self, cert_file: str, key_file: str) -> None:
        """Load and try the pair; raises `ConfigError` with what is wrong. Logs what is only dangerous."""
        self._cert_file, self._key_file = Path(cert_file), Path(key_file)
        self._current, self.certificate = self._loaded()
        self.context = self._current
        # Loading another pair into the same context would leave the old one there where the kinds of their keys differ:
        # OpenSSL keeps one of each, and would go on to show an RSA certificate beside the ECDSA one that replaced it.
        self.context.sni_callback = self._choose

    def reload(self) -> Certificate:
        """Read both files again and use them for new connections.

        Raises `ConfigError` and goes on with the old pair when the new one cannot be used.
        """
        self._current, self.certificate = self._loaded()
        return self.certificate

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Called by each handshake, also by one that names no server (RFC 6066, section 3)."""
        if connection.context is not self._current:
            connection.context = self._current

    def _loaded(self) -> tuple[ssl.SSLContext, Certificate]:
        _check_readable(self._cert_file, "tls_cert", "CERTIFICATE-----")
        _check_readable(self._key_file, "tls_key", "PRIVATE KEY-----")
        _check_mode(self._key_file)
        context = _context(self._cert_file, self._key_file)
        certificate = _shown(context, self._cert_file)
        _warn_of_dates(self._cert_file, certificate)
        return context, certificate


def _context(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    # Not `ssl.create_default_context`: it would write the keys of all sessions to where SSLKEYLOGFILE says.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])

    def no_passphrase() -> NoReturn:
        raise ConfigError(
            f"tls_key {key_file} is protected by a passphrase, and nobody is there to type it; write it without one "
            "(openssl pkey -in KEY -out NEW_KEY) and keep it readable by the broker's user only"
        )

    try:
        # Without a function OpenSSL would ask at the terminal.
        context.load_cert_chain(cert_file, key_file, password=no_passphrase)
    except ssl.SSLError as error:
        reason = error.reason or ""
        if "MISMATCH" in reason or reason == "NO_CERTIFICATE_ASSIGNED":  # the latter for a key of another kind
            raise ConfigError(f"tls_key {key_file} is not the key of the certificate in {cert_file}") from None
        raise ConfigError(f"tls_cert {cert_file} and tls_key {key_file} cannot be used: {_said(error)}") from None
    except OSError as error:
        raise ConfigError(f"tls_cert {cert_file} or tls_key {key_file} cannot be read: {error.strerror}") from None
    return context


def _check_readable(file: Path, setting: str, marker: str) -> None:
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            # Reading a pipe waits for its writer, and the whole broker with it when SIGHUP has the pair read again.
            raise ConfigError(f"{setting} {file} is not a file but a directory, a pipe or a device")
        text = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting} {file} cannot be read: {error.strerror}") from None
    if marker.encode() not in text:
        raise ConfigError(f"{setting} {file} holds no {marker.strip('-').lower()} in PEM form")


def _check_mode(key_file: Path) -> None:
    """Raise `ConfigError` for a key that others may change; warn where they may read it, as containers do."""
    mode = key_file.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"tls_key {key_file} can be changed by others than its owner (mode {stat.S_IMODE(mode):04o}); "
            f"chmod 600 {key_file}"
        )
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        log.warning(
            "tls_key %s can be read by others than its owner (mode %04o); chmod 600 it unless that is meant",
            key_file,
            stat.S_IMODE(mode),
        )


def _warn_of_dates(cert_file: Path, certificate: Certificate) -> None:
    """Log what clients will refuse. The broker starts all the same.

    A restart must not turn a certificate that some clients complain of into a broker that nobody can reach.
    """
    now, until = time.time(), time.strftime("%Y-%m-%d", time.gmtime(certificate.not_after))
    if now > certificate.not_after:
        log.error("the certificate in %s has expired on %s; clients that check it do not connect", cert_file, until)
    elif now < certificate.not_before:
        log.error("the certificate in %s is not yet valid; clients that check it do not connect", cert_file)
    elif now > certificate.not_after - _SOON_S:
        log.warning("the certificate in %s expires on %s; renew it and send SIGHUP", cert_file, until)


def _shown(server: ssl.SSLContext, cert_file: Path) -> Certificate:
    """What a client sees that trusts exactly this certificate; raises `ConfigError` where even that one refuses it.

    A handshake with ourselves, in memory: `ssl` decodes certificates of peers only.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(_NO_CHECK_TIME)
    try:
        client.load_verify_locations(cert_file)
        peer = _peer(server, client)
    except ssl.SSLError as error:
        raise ConfigError(f"no client would accept the certificate in {cert_file}: {_said(error)}") from None
    named = [value for kind, value in peer.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    return Certificate(
        names=tuple(_plain(name) for name in named),
        serial=peer["serialNumber"],
        not_before=ssl.cert_time_to_seconds(peer["notBefore"]),
        not_after=ssl.cert_time_to_seconds(peer["notAfter"]),
        self_signed=peer.get("issuer") == peer.get("subject"),
    )


def _peer(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, Any]:
    """The server's certificate, verified and decoded by the client."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(8):  # more turns than any handshake has
        for end in (asking, answering):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            if (peer := asking.getpeercert()) is not None:
                return peer
    raise AssertionError("a handshake with ourselves did not end")


def _plain(name: str) -> str:
    """One way to write a DNS name or an address."""
    try:
        return str(ipaddress.ip_address(name.strip()))
    except ValueError:
        return name.lower()


def _said(error: ssl.SSLError) -> str:
    """OpenSSL's words without its numbers."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message)
    return error.reason.replace("_", " ").lower() if error.reason else "what they hold cannot be decoded"
