"""Where the signing key comes from."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from streambroker.core.errors import ConfigError
from streambroker.transport.auth.keys import SigningKeys, load_or_create_key


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


def test_a_configured_key_is_used_and_nothing_is_written(tmp_path: Path) -> None:
    assert load_or_create_key(tmp_path, "s" * 32) == b"s" * 32
    assert load_or_create_key(tmp_path, "ü" * 16) == "ü".encode() * 16
    assert not list(tmp_path.iterdir())


PUBLIC = "-----BEGIN PUBLIC KEY-----\n" + "A" * 64 + "\n-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize("configured", ["", "short", "s" * 31, PUBLIC])
def test_a_configured_key_that_is_short_or_public_refuses_to_start(tmp_path: Path, configured: str) -> None:
    with pytest.raises(ConfigError):
        load_or_create_key(tmp_path, configured)
    assert not list(tmp_path.iterdir())


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
