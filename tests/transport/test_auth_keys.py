"""Where the signing key comes from."""

from __future__ import annotations

import secrets
import stat
from pathlib import Path

import pytest

from streambroker.core.errors import ConfigError
from streambroker.transport.auth.keys import SigningKeys, configured_key, load_or_create_key


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_start_makes_a_key_that_later_starts_find(tmp_path: Path) -> None:
    key = load_or_create_key(tmp_path, None)
    assert len(key) == 32
    assert mode(tmp_path / "jwt.key") == 0o600
    assert load_or_create_key(tmp_path, None) == key
    assert [path.name for path in tmp_path.iterdir()] == ["jwt.key"]


def test_every_data_directory_has_a_key_of_its_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert load_or_create_key(tmp_path / "a", None) != load_or_create_key(tmp_path / "b", None)


def test_what_a_crash_left_behind_is_not_taken_for_a_key(tmp_path: Path) -> None:
    (tmp_path / "jwt.key.new").write_bytes(b"half")
    key = load_or_create_key(tmp_path, None)
    assert (tmp_path / "jwt.key").read_bytes() == key
    assert not (tmp_path / "jwt.key.new").exists()


KEY = "9bd1c03e7f4a2685be0c47d913fa52e8"


def test_a_configured_key_is_used_and_nothing_is_written(tmp_path: Path) -> None:
    assert load_or_create_key(tmp_path, KEY) == KEY.encode()
    assert load_or_create_key(tmp_path, "äöüßéèâêîôû" * 2) == "äöüßéèâêîôû".encode() * 2
    assert not list(tmp_path.iterdir())


PUBLIC = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEbc\n-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize("configured", ["", "short", KEY[:31], PUBLIC])
def test_a_configured_key_that_is_short_or_public_refuses_to_start(tmp_path: Path, configured: str) -> None:
    """D1"""
    with pytest.raises(ConfigError):
        load_or_create_key(tmp_path, configured)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "configured",
    [
        "s" * 32,
        "123456789" * 8,
        "abcabcabc" * 8,
        "your-256-bit-secret-" + KEY,
        "a-string-secret-at-least-256-bits-long",
        "your_super_secret_key_here_1234567890",
        "CHANGE_ME_CHANGE_ME_CHANGE_ME_" + KEY,
        "please-change-this-in-production-ok",
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    ],
)
def test_a_configured_key_that_others_can_guess_refuses_to_start_and_says_how_to_make_one(configured: str) -> None:
    """D1"""
    with pytest.raises(ConfigError, match="openssl rand -hex 32") as caught:
        configured_key(configured, "jwt_secret_previous")
    assert str(caught.value).startswith("jwt_secret_previous ")
    assert configured not in str(caught.value)


def test_keys_that_openssl_makes_are_never_taken_for_guessable() -> None:
    for _ in range(1_000):
        configured_key(secrets.token_hex(32))
        configured_key(secrets.token_urlsafe(32))


@pytest.mark.parametrize("content", [b"", b"half a key"])
def test_a_damaged_key_file_is_never_replaced_unasked(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "jwt.key").write_bytes(content)
    with pytest.raises(ConfigError, match="damaged"):
        load_or_create_key(tmp_path, None)
    assert (tmp_path / "jwt.key").read_bytes() == content


def test_a_key_file_that_others_may_read_is_closed_to_them(tmp_path: Path) -> None:
    key = load_or_create_key(tmp_path, None)
    (tmp_path / "jwt.key").chmod(0o644)
    assert load_or_create_key(tmp_path, None) == key
    assert mode(tmp_path / "jwt.key") == 0o600


def test_a_data_directory_that_cannot_be_used_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        load_or_create_key(tmp_path / "missing", None)


def test_two_keys_are_live_and_no_third() -> None:
    """D11"""
    old, new = b"o" * 32, b"n" * 32
    keys = SigningKeys(new, old)
    assert keys.current == new
    assert keys.find(keys.current_id) == new
    assert keys.find(SigningKeys(old).current_id) == old
    assert keys.find(SigningKeys(b"x" * 32).current_id) is None


def test_a_key_has_the_same_id_on_every_start() -> None:
    assert SigningKeys(b"k" * 32).current_id == SigningKeys(b"k" * 32).current_id


@pytest.mark.parametrize(("current", "previous"), [(b"short", None), (b"k" * 32, b"short")])
def test_short_keys_are_refused(current: bytes, previous: bytes | None) -> None:
    with pytest.raises(ConfigError):
        SigningKeys(current, previous)
