"""All settings, read and checked once: flag over environment over TOML file over default."""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import limits
import msgspec
from msgspec import Meta

from streambroker.core.errors import ConfigError

PREFIX = "STREAMBROKER_"
CLIENT_VARIABLES = frozenset(f"{PREFIX}{name}" for name in ("URL", "TOKEN", "USERNAME", "PASSWORD"))
"""Who calls which broker, for the SDK and the commands that use it: a broker does not look at them."""
OFF = "off"
_TRUE, _FALSE = ("on", "true", "1"), (OFF, "false", "0")
_is_rate = re.compile(
    r"\s*[1-9]\d{0,11}\s*(?:/|per\b)\s*(?:[1-9]\d{0,3}\s*)?(?:second|minute|hour|day|month|year)s?\s*", re.IGNORECASE
).fullmatch

Bytes = Annotated[int, Meta(ge=0, le=2**62)]
Names = tuple[str, ...]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that can be set. Durations in milliseconds, sizes in bytes."""

    host: Annotated[str, Meta(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")] = 8_000
    data_dir: Annotated[str, Meta(description="Where the data is kept.")] = "./data"
    log_format: Annotated[Literal["auto", "json", "console"], Meta(description="auto, json or console.")] = "auto"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="debug, info, warning or error.")
    ] = "info"
    log_dir: Annotated[
        str | None, Meta(description="Where log files are kept: logs in the data directory; off keeps none.")
    ] = None
    access_log: Annotated[
        Literal["off", "errors", "summary", "all"], Meta(description="Requests in the log: off, errors, summary, all.")
    ] = "errors"
    metrics_port: Annotated[
        int, Meta(ge=0, le=65_535, description="Port on loopback for metrics without a token; 0: none.")
    ] = 0
    otlp_endpoint: Annotated[
        str | None, Meta(description="URL of a collector that takes spans by OTLP over HTTP; else none are made.")
    ] = None
    trace_ratio: Annotated[
        float, Meta(ge=0, le=1, description="Share of traces to record where the publisher has not decided.")
    ] = 1.0
    admin_password: Annotated[
        str | None, Meta(description="Password of the user admin that the first start creates; else one is made.")
    ] = None
    jwt_secret: Annotated[
        str | None, Meta(description="Key that signs access tokens, 32 bytes or more; else one is kept in the data.")
    ] = None
    jwt_secret_previous: Annotated[
        str | None, Meta(description="The key before that one, accepted until its last tokens have ended.")
    ] = None
    access_token_ms: Annotated[int, Meta(ge=1_000, le=86_400_000, description="Life of an access token.")] = 900_000
    refresh_token_ms: Annotated[int, Meta(ge=60_000, le=2**40, description="Life of a refresh token.")] = (
        30 * 86_400_000
    )
    tls_cert: Annotated[str | None, Meta(description="File with the certificate chain (PEM); turns TLS on.")] = None
    tls_key: Annotated[str | None, Meta(description="File with its private key (PEM, no passphrase).")] = None
    insecure: Annotated[
        bool, Meta(description="Allow to listen beyond loopback without TLS: passwords go over the wire in clear.")
    ] = False
    allowed_hosts: Annotated[
        Names, Meta(description="Names by which clients may call it beside addresses, localhost and --host; * for any.")
    ] = ()
    allowed_origins: Annotated[
        Names, Meta(description="Origins of other sites whose pages may use it, such as https://app.example.com.")
    ] = ()
    trusted_proxies: Annotated[
        Names, Meta(description="Addresses or networks of proxies whose X-Forwarded-For is believed.")
    ] = ()
    rate_limit_default: Annotated[str, Meta(description="Requests of a user, such as 1200/minute, or off.")] = (
        "1200/minute"
    )
    rate_limit_login: Annotated[str, Meta(description="Logins of a user and of an address, or off.")] = "10/minute"
    rate_limit_messages: Annotated[str, Meta(description="Publishes, consumes and settles of a user, or off.")] = (
        "600000/minute"
    )
    rate_limit_storage: Annotated[
        str, Meta(description="Where limits are counted: memory, or redis://host:port/db for several brokers.")
    ] = "memory"
    max_message_bytes: Annotated[int, Meta(ge=1_024, le=64 * 1024 * 1024, description="Largest content.")] = 1024 * 1024
    max_connections: Annotated[int, Meta(ge=1, le=1_000_000, description="Connections of everybody together.")] = 12_000
    max_connections_per_address: Annotated[
        int, Meta(ge=0, description="Connections of an address on which nobody has logged in; 0: any.")
    ] = 256
    max_connections_per_user: Annotated[int, Meta(ge=0, description="WebSockets and polls of a member; 0: any.")] = 100
    max_in_flight_per_user: Annotated[int, Meta(ge=0, description="Leases of a member at a time; 0: any.")] = 100_000
    max_queues: Annotated[int, Meta(ge=1, le=1_000_000, description="Queues of everybody together.")] = 10_000
    max_queues_per_user: Annotated[int, Meta(ge=0, description="Queues that a member may create; 0: any.")] = 1_000
    max_webhooks_per_user: Annotated[int, Meta(ge=0, description="Webhooks that act for a user; 0: any.")] = 20
    max_stored_bytes: Annotated[Bytes, Meta(description="Size of the data file; 0: what the disk holds.")] = 0
    max_stored_bytes_per_user: Annotated[
        Bytes, Meta(description="Content in the queues that a member created; 0: any.")
    ] = 0
    auto_create_queues: Annotated[bool, Meta(description="Create a queue at its first use.")] = True
    graphql: Annotated[bool, Meta(description="Serve GraphQL at /graphql, which takes the extra graphql.")] = True
    webhooks: Annotated[bool, Meta(description="Push messages to URLs, which takes the extra webhooks.")] = True
    webhook_allow_private: Annotated[
        Names, Meta(description="Networks that webhooks may reach though they are not public, such as 10.1.0.0/16.")
    ] = ()
    heartbeat_ms: Annotated[int, Meta(ge=100, le=600_000, description="Interval of WebSocket pings.")] = 10_000
    drain_timeout_ms: Annotated[int, Meta(ge=0, le=600_000, description="How long a stop waits for acks.")] = 10_000


class SettingError(ConfigError):
    """A setting is wrong; `from_flag` tells whether a flag of the command said so (exit 64 and not 78)."""

    def __init__(self, detail: str, from_flag: bool = False) -> None:
        super().__init__(detail)
        self.from_flag = from_flag


class Loaded(NamedTuple):
    """Settings, and for each that is not the default where it came from, in words."""

    settings: Settings
    sources: Mapping[str, str]


def load(flags: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of a start; see `read`."""
    return read(flags, environment).settings


def read(flags: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Loaded:
    """The settings of a start, and where they came from.

    `flags` holds what the command line gave (None: not given), `config` the file's path. Raises `SettingError` with
    what to change: a value that is wrong, a name that is unknown, settings that contradict each other.
    """
    found = _found(flags, environment)
    _check_together(found.settings)
    return found


def data_directory(flags: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Path:
    """Where the data is kept, for a command that starts no broker: settings may contradict each other. See `read`."""
    return Path(_found(flags, environment).settings.data_dir)


def _found(flags: Mapping[str, Any], environment: Mapping[str, str]) -> Loaded:
    given = {name: value for name, value in flags.items() if value is not None}
    variables = {
        key.removeprefix(PREFIX).lower(): value
        for key, value in environment.items()
        if key.startswith(PREFIX) and key not in CLIENT_VARIABLES
    }
    from_environment = variables.pop("config", None)
    file = given.pop("config", None) or from_environment
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, found, from_flag in (
        (str(file), _file(Path(file)) if file else {}, False),
        ("the environment", variables, False),
        ("the command line", given, True),
    ):
        for name, value in found.items():
            values[name] = _checked(name, value, source, from_flag)
            sources[name] = source
    return Loaded(Settings(**values), sources)


def shown(name: str, value: Any) -> str:
    """A setting's value for people, as TOML writes it; secrets are masked, what is not set is a comment."""
    if value is None:
        return "# not set"
    if name in _SECRET:
        return '"***"'
    if name == "rate_limit_storage":
        # Of who logs in nothing is shown: a user name alone may be a token. A query may hold a password too.
        parts = urlsplit(value)
        _, at, host = parts.netloc.rpartition("@")
        value = parts._replace(netloc=f"***@{host}" if at else host, query="***" if parts.query else "").geturl()
    return msgspec.json.encode(value).decode()


def secrets(settings: Settings) -> tuple[str, ...]:
    """What must stand in no log, whatever else a line says."""
    url = urlsplit(settings.rate_limit_storage)
    inside = [url.password or "", *(value for name, value in parse_qsl(url.query) if name == "password")]
    known = [getattr(settings, name) or "" for name in _SECRET]
    return tuple({text for secret in (*known, *inside) for text in (secret, unquote(secret)) if text})


def off_or(rate: str) -> limits.RateLimitItem | None:
    """The rate that a setting names, None for ``off``. Raises `ValueError`."""
    if rate.lower() in _FALSE:
        return None
    # Its own parser takes the first of several rates, and "0 minutes" for one.
    if not _is_rate(rate):
        raise ValueError(rate)
    item: limits.RateLimitItem = limits.parse(rate)
    return item


def log_directory(settings: Settings) -> Path | None:
    """Where log files are kept; None where none are."""
    if settings.log_dir is None:
        return Path(settings.data_dir) / "logs"
    return None if settings.log_dir == OFF else Path(settings.log_dir)


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise SettingError(f"the configuration file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"the configuration file {path} is not TOML: {error}") from None


def _checked(name: str, value: Any, source: str, from_flag: bool) -> Any:
    field = FIELDS.get(name)
    if field is None:
        spelled = f"{PREFIX}{name.upper()}" if source == "the environment" else name
        raise SettingError(f"there is no setting {spelled} (from {source})", from_flag)
    given = "" if name in _SECRET or name == "rate_limit_storage" else f": {value!r}"
    type_, text = _plain(field.type), isinstance(value, str)
    if type_ is bool and text:
        if value.lower() not in _TRUE + _FALSE:
            raise SettingError(f"{name} from {source} must be on or off, and is not{given}", from_flag)
        return value.lower() in _TRUE
    if type_ is Names and text:
        value = [part.strip() for part in value.split(",") if part.strip()]
        text = False
    try:
        # Text is all that an environment can hold, so numbers in text are numbers.
        converted = msgspec.convert(value, field.type, strict=not text)
    except msgspec.ValidationError as error:
        raise SettingError(f"{name} from {source} is wrong{given}; {error}", from_flag) from None
    if (wrong := _WRONG.get(name, _nothing)(converted)) is not None:
        raise SettingError(f"{name} from {source} is wrong{given}; {wrong}", from_flag)
    return converted


def _plain(type_: Any) -> Any:
    return getattr(type_, "__origin__", type_) if hasattr(type_, "__metadata__") else type_


def _nothing(value: Any) -> str | None:
    return None


def _rate(value: str) -> str | None:
    try:
        off_or(value)
    except ValueError:
        return "a rate is a number per second, minute, hour or day, such as 1200/minute, or off"
    return None


def _storage(value: str) -> str | None:
    parts = _url(value)
    if value == "memory" or (parts is not None and parts.scheme in ("redis", "rediss", "redis+unix")):
        return None
    return "it is memory, or redis://host:port/db"


def _collector(value: str | None) -> str | None:
    url = urlsplit(value or "")
    if value is None or (url.scheme in ("http", "https") and url.hostname and not url.query and not url.fragment):
        return "it holds credentials; they go into OTEL_EXPORTER_OTLP_HEADERS" if url.username else None
    return "it is the URL of a collector, such as http://127.0.0.1:4318"


def _networks(value: Names) -> str | None:
    try:
        networks = [ipaddress.ip_network(part) for part in value]
    except ValueError as error:
        return f"{error}; name the addresses or networks of your proxies, such as 10.0.0.0/24"
    of_4 = [network for network in networks if isinstance(network, ipaddress.IPv4Network)]
    of_6 = [network for network in networks if isinstance(network, ipaddress.IPv6Network)]
    together = [network.prefixlen for network in ipaddress.collapse_addresses(of_4)]
    together += [network.prefixlen for network in ipaddress.collapse_addresses(of_6)]
    return "that is everybody, and anybody could then pretend to be anybody" if 0 in together else None


def _private_networks(value: Names) -> str | None:
    try:
        for part in value:
            ipaddress.ip_network(part)
    except ValueError as error:
        return f"{error}; name addresses or networks, such as 10.1.0.0/16"
    return None


def _origins(value: Names) -> str | None:
    for part in value:
        url = _url(part)
        if url is None or url.scheme not in ("http", "https") or not url.netloc or any(url[2:]):
            return f"an origin is a scheme and a host, such as https://app.example.com; {part!r} is none"
    return None


def _url(text: str) -> SplitResult | None:
    """The parts of a URL; None where it is none, or its port is no number."""
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        return None
    return url


def _hosts(value: Names) -> str | None:
    for part in value:
        if not part.isascii() or any(sign in part for sign in "/ @?#") or ("*" in part[1:]):
            return f"a host is a name such as broker.example.com, *.example.com, or * for any; {part!r} is none"
    return None


def _not_empty(value: str | None) -> str | None:
    return "it is empty" if value is not None and not value.strip() else None


def _check_together(settings: Settings) -> None:
    """Raise `SettingError` where settings contradict each other."""
    if (settings.tls_cert is None) != (settings.tls_key is None):
        there, missing = ("tls_cert", "tls_key") if settings.tls_cert else ("tls_key", "tls_cert")
        raise SettingError(f"{there} is set but {missing} is not; TLS needs both")
    if settings.tls_cert is not None and settings.insecure:
        raise SettingError("insecure is on though TLS is too; take one of them away")
    if settings.tls_cert is None and not settings.insecure and not is_loopback(settings.host):
        raise SettingError(
            f"listening on {settings.host} without TLS would send passwords, tokens and messages over the network in "
            "clear; give --tls-cert and --tls-key (`streambroker cert` makes a pair for development), or say "
            "--insecure where something in front of it speaks TLS"
        )
    if settings.jwt_secret is not None and settings.jwt_secret == settings.jwt_secret_previous:
        raise SettingError("jwt_secret and jwt_secret_previous are the same; previous is the key before")
    if settings.access_token_ms > settings.refresh_token_ms:
        raise SettingError("access_token_ms is longer than refresh_token_ms; it is the refresh token that lives long")
    for name, whole in (("max_connections_per_user", "max_connections"), ("max_queues_per_user", "max_queues")):
        if getattr(settings, name) > getattr(settings, whole):
            raise SettingError(f"{name} is larger than {whole}, and so would never count")
    if settings.max_stored_bytes and settings.max_stored_bytes_per_user > settings.max_stored_bytes:
        raise SettingError("max_stored_bytes_per_user is larger than max_stored_bytes, and so would never count")


FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}
_SECRET = ("admin_password", "jwt_secret", "jwt_secret_previous")
_WRONG: dict[str, Callable[[Any], str | None]] = {
    "rate_limit_default": _rate,
    "rate_limit_login": _rate,
    "rate_limit_messages": _rate,
    "rate_limit_storage": _storage,
    "otlp_endpoint": _collector,
    "trusted_proxies": _networks,
    "webhook_allow_private": _private_networks,
    "allowed_origins": _origins,
    "allowed_hosts": _hosts,
    "tls_cert": _not_empty,
    "tls_key": _not_empty,
}
