"""`streambroker cert`: what it writes is accepted by clients that trust it, and nothing is overwritten by accident."""

from __future__ import annotations

import datetime
import ipaddress
import re
import ssl
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from streambroker import cli
from streambroker.certificates import CERT_FILE, KEY_FILE, AlreadyThere, Pair, is_name, make

NOW = datetime.datetime.now(datetime.UTC)
USAGE, UNAVAILABLE, CANNOT_USE = 64, 69, 73

Command = Callable[..., int]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command with these arguments; its exit code."""

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["streambroker", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        return code if isinstance(code, int) else 0

    return run


def certificate(pair: Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.cert_file.read_bytes())


def accepted(pair: Pair, name: str, flags: ssl.VerifyFlags = ssl.VerifyFlags.VERIFY_DEFAULT) -> bool:
    """Whether a client that trusts the certificate, and calls the server by this name, shakes hands with it."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pair.cert_file, pair.key_file)
    client = ssl.create_default_context(cafile=str(pair.cert_file))
    client.verify_flags |= flags
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(down, up, server_hostname=name), server.wrap_bio(up, down, server_side=True))
    for end in (*ends, *ends):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError:
            return False
    return ends[0].version() is not None


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "broker", "10.0.0.7", "eu.queues.example.com"])
def test_a_client_that_trusts_it_accepts_every_name(tmp_path: Path, name: str) -> None:
    pair = make(tmp_path, ["broker", "10.0.0.7", "*.queues.example.com"], 365, NOW)
    assert accepted(pair, name)
    # What Python 3.13 asks for of itself.
    assert accepted(pair, name, ssl.VerifyFlags.VERIFY_X509_STRICT | ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN)


def test_another_name_is_refused(tmp_path: Path) -> None:
    pair = make(tmp_path, ["broker"], 365, NOW)
    assert not accepted(pair, "brokers")
    assert not accepted(pair, "10.0.0.7")


def test_it_is_a_servers_certificate_and_no_authority(tmp_path: Path) -> None:
    extensions = certificate(make(tmp_path, (), 365, NOW)).extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert (constraints.critical, constraints.value.ca) == (True, False)
    assert (usage.critical, usage.value.digital_signature, usage.value.key_cert_sign) == (True, True, False)
    extended = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(extended) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def test_names_and_addresses_stand_there_as_what_they_are(tmp_path: Path) -> None:
    pair = make(tmp_path, ["broker", "fd00::7", "localhost"], 365, NOW)
    names = certificate(pair).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "broker"]
    addresses = ["127.0.0.1", "::1", "fd00::7"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address(address) for address in addresses]


def test_it_is_good_from_now_on_for_as_many_days_as_asked(tmp_path: Path) -> None:
    pair = make(tmp_path, (), 30, NOW)
    assert certificate(pair).not_valid_before_utc <= NOW - datetime.timedelta(minutes=59)  # clients' clocks differ
    assert certificate(pair).not_valid_after_utc == pair.not_after
    assert datetime.timedelta(0) <= NOW + datetime.timedelta(days=30) - pair.not_after < datetime.timedelta(seconds=1)


def test_two_pairs_have_nothing_in_common(tmp_path: Path) -> None:
    one, other = (make(tmp_path / name, (), 365, NOW) for name in ("one", "other"))
    assert certificate(one).serial_number != certificate(other).serial_number
    assert one.key_file.read_bytes() != other.key_file.read_bytes()
    assert one.fingerprint != other.fingerprint


def test_the_key_is_for_its_owner_only_also_when_it_replaces_one_that_was_not(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_text("old")
    (tmp_path / KEY_FILE).chmod(0o644)
    pair = make(tmp_path, (), 365, NOW, replace=True)
    assert stat.S_IMODE(pair.key_file.stat().st_mode) == 0o600
    assert b"BEGIN PRIVATE KEY" in pair.key_file.read_bytes()


@pytest.mark.parametrize("existing", [CERT_FILE, KEY_FILE])
def test_what_exists_is_left_alone(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("mine")
    with pytest.raises(AlreadyThere, match=existing):
        make(tmp_path, (), 365, NOW)
    assert [file.name for file in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "mine"


def test_replacing_does_not_write_through_a_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    (tmp_path / "pair").mkdir()
    (tmp_path / "pair" / KEY_FILE).symlink_to(elsewhere)
    make(tmp_path / "pair", (), 365, NOW, replace=True)
    assert elsewhere.read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["broker", "a.b-c.example", "*.example.com", "127.0.0.1", "fd00::1", "xn--bcher-kva.de"]
)
def test_these_are_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "a b", "bücher.de", "-a", "a-", "a..b", "a.*.b", "*", "https://a", "a:8000", "a\n", "x" * 64, "a." * 130],
)
def test_these_are_no_names(name: str) -> None:
    assert not is_name(name)


def test_the_command_says_where_it_put_them_and_what_to_do_next(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "my pair"
    assert command("cert", "--out", str(out), "--host", "broker", "--host", "10.0.0.7", "--days", "3") == 0
    said = capsys.readouterr().out
    made = x509.load_pem_x509_certificate((out / CERT_FILE).read_bytes())
    assert f"good until {made.not_valid_after_utc:%Y-%m-%d}" in said
    assert "localhost, 127.0.0.1, ::1, broker, 10.0.0.7" in said
    assert re.search(r"SHA-256 fingerprint: ([0-9A-F]{2}:){31}[0-9A-F]{2}\n", said)
    assert f"serve --tls-cert '{out / CERT_FILE}' --tls-key '{out / KEY_FILE}'\n" in said
    assert f"curl --cacert '{out / CERT_FILE}' https://localhost:8000/healthz\n" in said


def test_the_command_replaces_a_pair_only_when_told_to(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("cert", "--out", str(tmp_path)) == 0
    first = (tmp_path / KEY_FILE).read_bytes()
    assert command("cert", "--out", str(tmp_path)) == CANNOT_USE
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / KEY_FILE).read_bytes() == first
    assert command("cert", "--out", str(tmp_path), "--force") == 0
    assert (tmp_path / KEY_FILE).read_bytes() != first


@pytest.mark.parametrize("wrong", [("--host", "a b"), ("--days", "0"), ("--days", "soon"), ("--port", "1")])
def test_wrong_usage_writes_nothing(command: Command, tmp_path: Path, wrong: tuple[str, str]) -> None:
    assert command("cert", "--out", str(tmp_path), *wrong) == USAGE
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_one_is_named(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert command("cert", "--out", str(tmp_path / "file")) == CANNOT_USE
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_without_its_library_it_says_what_to_install(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "streambroker.certificates")
    monkeypatch.delattr("streambroker.certificates")
    monkeypatch.setitem(sys.modules, "cryptography", None)  # what an import then finds is that there is none
    assert command("cert", "--out", str(tmp_path)) == UNAVAILABLE
    assert "pip install 'streambroker[cert]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
