"""The server's TLS in memory: what it speaks, which pairs it refuses, and changing the pair while it runs."""

from __future__ import annotations

import datetime
import logging
import os
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from streambroker.certificates import Pair, make
from streambroker.core.errors import ConfigError
from streambroker.transport.tls import Certificate, Tls

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
PEM = serialization.Encoding.PEM

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make(tmp_path / "pair", ["broker"], 365, NOW)


def loaded(pair: Pair) -> Tls:
    return Tls(str(pair.cert_file), str(pair.key_file))


def trusting(pair: Pair) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(pair.cert_file))


class Conversation:
    """A client and a server, connected in memory."""

    def __init__(self, client: ssl.SSLContext, server: ssl.SSLContext, name: str | None = "localhost") -> None:
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(down, up, server_hostname=name)
        self.server = server.wrap_bio(up, down, server_side=True)
        for end in (self.client, self.server) * 3:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue

    def serial(self) -> str:
        """The serial number that the client was shown."""
        return str((self.client.getpeercert() or {})["serialNumber"])

    def carries(self, text: bytes) -> bool:
        """Whether what the one end says is what the other one reads, both ways."""
        self.client.write(text)
        heard = self.server.read(100)
        self.server.write(heard)
        return heard == text == self.client.read(100)


@pytest.mark.parametrize("which", ["cert_file", "key_file"])
def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(pair: Pair, which: str) -> None:
    tls = loaded(pair)
    file: Path = getattr(pair, which)
    file.unlink()
    os.mkfifo(file, 0o600)
    hurry = threading.Timer(10, lambda: os.close(os.open(file, os.O_WRONLY)))  # a reader would wait for it for ever
    hurry.start()
    try:
        with pytest.raises(ConfigError, match="is not a file but"):
            tls.reload()
    finally:
        hurry.cancel()


def hung(limit: ssl.TLSVersion) -> ssl.SSLContext:
    """A client that speaks this version at most, with any cipher at all."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.minimum_version, client.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, limit
    return client


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_versions_before_1_2_are_refused(pair: Pair, version: ssl.TLSVersion) -> None:
    lenient = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    lenient.set_ciphers("ALL:@SECLEVEL=0")
    lenient.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    lenient.load_cert_chain(pair.cert_file, pair.key_file)
    assert Conversation(hung(version), lenient).client.version() in ("TLSv1", "TLSv1.1"), "the client cannot try"
    with pytest.raises(ssl.SSLError):
        Conversation(hung(version), loaded(pair).context)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_1_2_and_1_3_are_spoken_and_only_http_1_1_inside(pair: Pair, version: ssl.TLSVersion) -> None:
    client = trusting(pair)
    client.maximum_version = version
    client.set_alpn_protocols(["h2", "http/1.1"])
    conversation = Conversation(client, loaded(pair).context)
    assert conversation.client.version() == {ssl.TLSVersion.TLSv1_2: "TLSv1.2"}.get(version, "TLSv1.3")
    assert conversation.client.selected_alpn_protocol() == "http/1.1"
    assert conversation.client.compression() is None
    assert conversation.carries(b"hello")


@pytest.mark.parametrize("ciphers", ["ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-AES128-SHA", "AES128-GCM-SHA256"])
def test_ciphers_without_forward_secrecy_or_authentication_are_refused(pair: Pair, ciphers: str) -> None:
    client = hung(ssl.TLSVersion.TLSv1_2)
    client.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        Conversation(client, loaded(pair).context)


def test_keys_of_sessions_are_not_written_anywhere(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    client = hung(ssl.TLSVersion.TLSv1_3)
    assert Conversation(client, loaded(pair).context).carries(b"secret")
    assert not (tmp_path / "keys").exists()


# --- the pair ----------------------------------------------------------------------------------------------------


def written(
    directory: Path, key: Key, *, expires: datetime.datetime = NOW + 90 * DAY, client_only: bool = False
) -> Pair:
    """A self-signed pair of another making: any key, any time, and perhaps not a server's."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "other")])
    purpose = ExtendedKeyUsageOID.CLIENT_AUTH if client_only else ExtendedKeyUsageOID.SERVER_AUTH
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, NOW - 100 * DAY, expires)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    directory.mkdir()
    cert_file, key_file = directory / "cert.pem", directory / "key.pem"
    cert_file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(PEM))
    write_key(key_file, key)
    return Pair(cert_file, key_file, ("localhost",), expires, "")


def write_key(file: Path, key: Key, passphrase: bytes | None = None) -> None:
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    file.touch(0o600)
    file.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, encryption))


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, 2_048)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda pair: pair.cert_file.unlink(), "tls_cert .*cert.pem cannot be read: No such file"),
        (lambda pair: pair.key_file.unlink(), "tls_key .*key_nopass.pem cannot be read: No such file"),
        (lambda pair: pair.cert_file.write_bytes(b""), "tls_cert .* holds no certificate in PEM form"),
        (lambda pair: pair.cert_file.write_bytes(pair.key_file.read_bytes()), "tls_cert .* holds no certificate"),
        (lambda pair: pair.key_file.write_bytes(pair.cert_file.read_bytes()), "tls_key .* holds no private key"),
        (lambda pair: pair.cert_file.write_bytes(pair.cert_file.read_bytes()[:200]), "cannot be used"),
        (lambda pair: pair.key_file.write_bytes(pair.key_file.read_bytes()[:100]), "cannot be used"),
        (lambda pair: write_key(pair.key_file, ec.generate_private_key(ec.SECP256R1())), "is not the key of the cert"),
        (lambda pair: write_key(pair.key_file, rsa.generate_private_key(65_537, 2_048)), "is not the key of the cert"),
        (lambda pair: write_key(pair.key_file, ec.generate_private_key(ec.SECP256R1()), b"word"), "a passphrase"),
        (lambda pair: pair.key_file.chmod(0o620), "can be changed by others .*0620.*chmod 600"),
        (lambda pair: pair.key_file.chmod(0o602), "can be changed by others .*0602.*chmod 600"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_pair_that_cannot_be_used_says_why(pair: Pair, spoil: Callable[[Pair], object], words: str) -> None:
    spoil(pair)
    with pytest.raises(ConfigError, match=words):
        loaded(pair)


def test_a_certificate_that_every_client_would_refuse_is_refused(tmp_path: Path) -> None:
    other = written(tmp_path / "other", ec.generate_private_key(ec.SECP256R1()), client_only=True)
    with pytest.raises(ConfigError, match=r"no client would accept .*purpose"):
        loaded(other)


def test_a_key_that_others_may_read_is_warned_of(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    pair.key_file.chmod(0o440)  # as a container's secret may be
    loaded(pair)
    assert "can be read by others than its owner (mode 0440)" in caplog.text


def test_a_good_pair_is_not_commented_on(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    loaded(pair)
    assert caplog.text == ""


def test_an_expired_certificate_is_an_error_in_the_log_and_still_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expired = written(tmp_path / "expired", ec.generate_private_key(ec.SECP256R1()), expires=NOW - DAY)
    tls = loaded(expired)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert f"has expired on {NOW - DAY:%Y-%m-%d}" in caplog.text
    assert tls.certificate.not_after < NOW.timestamp()
    assert Conversation(hung(ssl.TLSVersion.TLSv1_3), tls.context).carries(b"hello")


def test_a_certificate_that_soon_expires_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    loaded(written(tmp_path / "soon", ec.generate_private_key(ec.SECP256R1()), expires=NOW + 13 * DAY))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "SIGHUP" in caplog.text


def test_a_certificate_of_tomorrow_is_an_error_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    loaded(make(tmp_path, (), 365, NOW + DAY))
    assert "not yet valid" in caplog.text


def test_what_the_certificate_says_is_known(pair: Pair) -> None:
    shown = loaded(pair).certificate
    made = x509.load_pem_x509_certificate(pair.cert_file.read_bytes())
    assert shown.names == ("localhost", "127.0.0.1", "::1", "broker")
    assert int(shown.serial, 16) == made.serial_number
    assert shown.not_before == made.not_valid_before_utc.timestamp()
    assert shown.not_after == made.not_valid_after_utc.timestamp()
    assert shown.self_signed


@pytest.mark.parametrize(
    ("host", "covered"),
    [
        ("Broker", True),
        ("a.example.com", True),
        ("a.b.example.com", False),
        ("example.com", False),
        ("::0001", True),
        ("127.0.0.2", False),
        ("", False),
    ],
)
def test_it_covers_what_clients_will_accept(host: str, covered: bool) -> None:
    names = ("localhost", "broker", "*.example.com", "::1", "127.0.0.1")
    assert Certificate(names, "1", 0, 1, self_signed=True).covers(host) is covered


# --- another pair while it runs ----------------------------------------------------------------------------------


def replaced(pair: Pair) -> Pair:
    return make(pair.cert_file.parent, ["broker"], 365, NOW, replace=True)


@pytest.mark.parametrize("name", ["localhost", None])
def test_after_a_reload_new_connections_get_the_new_certificate_and_open_ones_live(
    pair: Pair, name: str | None
) -> None:
    tls, client = loaded(pair), trusting(pair)
    client.check_hostname = name is not None  # an address is not sent to the server
    before = Conversation(client, tls.context, name)
    new = trusting(replaced(pair))
    new.check_hostname = name is not None
    assert Conversation(client, tls.context, name).serial() == before.serial(), "files alone change nothing"
    assert tls.reload() is tls.certificate
    assert Conversation(new, tls.context, name).serial() == tls.certificate.serial != before.serial()
    assert before.carries(b"still here")
    with pytest.raises(ssl.SSLCertVerificationError):
        Conversation(client, tls.context, name)


def test_a_new_certificate_with_another_kind_of_key_leaves_nothing_of_the_old_one(
    tmp_path: Path, rsa_key: rsa.RSAPrivateKey
) -> None:
    pair = written(tmp_path / "pair", rsa_key)
    tls = loaded(pair)
    prefers_rsa = hung(ssl.TLSVersion.TLSv1_2)
    prefers_rsa.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    assert Conversation(prefers_rsa, tls.context).carries(b"hello")
    other = make(tmp_path / "other", (), 365, NOW)
    pair.cert_file.write_bytes(other.cert_file.read_bytes())
    pair.key_file.write_bytes(other.key_file.read_bytes())
    tls.reload()
    with pytest.raises(ssl.SSLError):
        Conversation(prefers_rsa, tls.context)
    assert Conversation(trusting(other), tls.context).serial() == tls.certificate.serial


def test_a_broken_pair_leaves_the_old_one_in_use(pair: Pair, tmp_path: Path) -> None:
    tls, client = loaded(pair), trusting(pair)
    serial, old = tls.certificate.serial, pair.cert_file.read_bytes()
    other = make(tmp_path / "other", (), 365, NOW)
    pair.cert_file.write_bytes(other.cert_file.read_bytes())  # the key is still the old one
    with pytest.raises(ConfigError, match="is not the key"):
        tls.reload()
    assert tls.certificate.serial == serial == Conversation(client, tls.context).serial()
    pair.cert_file.write_bytes(old)
    assert tls.reload().serial == serial


def test_reloading_again_and_again_shows_the_last(pair: Pair) -> None:
    tls = loaded(pair)
    for _ in range(3):
        client = trusting(replaced(pair))
        tls.reload()
        assert Conversation(client, tls.context).serial() == tls.certificate.serial
