"""What single settings take, and what is shown of them."""

from __future__ import annotations

from typing import Any

import pytest

from streambroker.config import SettingError, load, off_or, secrets, shown

URL = "redis://broker:p%40ss-word@redis.test:6379/0?password=another-secret"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (f"rate_limit_{kind}", rate)
            for kind in ("default", "login", "messages")
            for rate in (
                "10/minute;1/day",
                "10/minute, 1/day",
                "10/0minute",
                "0/minute",
                "10",
                "10/fortnight",
                "10/-1day",
            )
        ),
        ("rate_limit_storage", "redis://:hunter2@[bad"),
        ("rate_limit_storage", "redis://:hunter2@host:notaport/0"),
        ("rate_limit_storage", "redis://:hunter2@host:70000/0"),
        ("rate_limit_storage", "http://:hunter2@host"),
        ("allowed_origins", "http://[x"),
        ("allowed_origins", "https://app.example.com:port"),
        ("allowed_origins", "https://app.example.com/path"),
        ("trusted_proxies", "0.0.0.0/0"),
        ("trusted_proxies", "0.0.0.0/1,128.0.0.0/1"),
        ("trusted_proxies", "10.0.0.0/8,::/1,8000::/2,c000::/2"),
        ("trusted_proxies", "10.0.0.1/8"),
    ],
)
def test_what_a_setting_cannot_be_is_refused_by_its_name_and_without_a_secret(name: str, value: str) -> None:
    with pytest.raises(SettingError, match=name) as wrong:
        load({}, {f"STREAMBROKER_{name.upper()}": value})
    assert "hunter2" not in str(wrong.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rate_limit_storage", URL),
        ("rate_limit_storage", "redis+unix:///run/redis.sock"),
        ("rate_limit_storage", "rediss://[::1]:6380/1"),
        ("allowed_origins", ("https://app.example.com", "http://localhost:3000")),
        ("trusted_proxies", ("0.0.0.0/1", "128.0.0.0/2", "::/1", "127.0.0.1")),
    ],
)
def test_what_a_setting_can_be_is_taken_as_it_is(name: str, value: Any) -> None:
    given = ",".join(value) if isinstance(value, tuple) else value
    assert getattr(load({}, {f"STREAMBROKER_{name.upper()}": given}), name) == value


@pytest.mark.parametrize(
    ("rate", "amount", "seconds"),
    [("10/minute", 10, 60), ("5 per 2 hours", 5, 7_200), ("1/15minutes", 1, 900), ("600000/Second", 600_000, 1)],
)
def test_a_rate_is_a_number_in_a_time(rate: str, amount: int, seconds: int) -> None:
    item = off_or(rate)
    assert item is not None
    assert (item.amount, item.get_expiry()) == (amount, seconds)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (URL, '"redis://***@redis.test:6379/0?***"'),
        ("redis://only-a-token@h/0", '"redis://***@h/0"'),
        ("redis://h:1/0", '"redis://h:1/0"'),
        ("memory", '"memory"'),
    ],
)
def test_nothing_is_shown_of_who_logs_in_where_limits_are_counted(value: str, expected: str) -> None:
    assert shown("rate_limit_storage", value) == expected


def test_what_no_log_may_hold_is_known_as_it_is_written_and_as_it_is_meant() -> None:
    settings = load({}, {"STREAMBROKER_RATE_LIMIT_STORAGE": URL, "STREAMBROKER_JWT_SECRET": "of the tokens"})
    assert set(secrets(settings)) == {"p%40ss-word", "p@ss-word", "another-secret", "of the tokens"}
    assert secrets(load({}, {})) == ()
