"""All settings, read and checked once: flag over environment over TOML file over default."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from streambroker.core.errors import ConfigError

PREFIX = "STREAMBROKER_"
_TRUE, _FALSE = ("on", "true", "1"), ("off", "false", "0")
Positive = Annotated[int, msgspec.Meta(ge=1)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that can be set. Durations in milliseconds, sizes in bytes."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 8_000
    data_dir: str = "./data"
    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    admin_password: str | None = None
    jwt_secret: str | None = None
    access_token_ms: Annotated[int, msgspec.Meta(ge=1_000, le=86_400_000)] = 900_000
    refresh_token_ms: Annotated[int, msgspec.Meta(ge=60_000)] = 30 * 86_400_000
    auto_create_queues: bool = True
    max_message_bytes: Annotated[int, msgspec.Meta(ge=1_024, le=64 * 1024 * 1024)] = 1024 * 1024
    heartbeat_ms: Annotated[int, msgspec.Meta(ge=100, le=600_000)] = 10_000
    drain_timeout_ms: Annotated[int, msgspec.Meta(ge=0, le=600_000)] = 10_000


class SettingError(ConfigError):
    """A setting is wrong; `from_flag` tells whether a flag of the command said so (exit 64 and not 78)."""

    def __init__(self, detail: str, from_flag: bool = False) -> None:
        super().__init__(detail)
        self.from_flag = from_flag


def load(flags: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of a start. `flags` holds what the command line gave (None: not given), `config` the file's path.

    Raises `SettingError` with what to change.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    variables = {
        key.removeprefix(PREFIX).lower(): value for key, value in environment.items() if key.startswith(PREFIX)
    }
    file = given.pop("config", None) or variables.pop("config", None)
    variables.pop("config", None)
    values: dict[str, Any] = {}
    for source, found, from_flag in (
        (str(file), _file(Path(file)) if file else {}, False),
        ("the environment", variables, False),
        ("the command line", given, True),
    ):
        for name, value in found.items():
            values[name] = _checked(name, value, source, from_flag)
    return Settings(**values)


def _file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise SettingError(f"the configuration file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"the configuration file {path} is not TOML: {error}") from None


def _checked(name: str, value: Any, source: str, from_flag: bool) -> Any:
    field = _FIELDS.get(name)
    if field is None:
        spelled = f"{PREFIX}{name.upper()}" if source == "the environment" else name
        raise SettingError(f"there is no setting {spelled} (from {source})", from_flag)
    if field.type is bool and isinstance(value, str):
        if value.lower() not in _TRUE + _FALSE:
            raise SettingError(f"{name} from {source} must be on or off, not {value!r}", from_flag)
        return value.lower() in _TRUE
    try:
        # Text is all that an environment can hold, so numbers in text are numbers.
        return msgspec.convert(value, field.type, strict=not isinstance(value, str))
    except msgspec.ValidationError as error:
        shown = "" if name in _SECRET else f", not {value!r}"
        raise SettingError(f"{name} from {source} is wrong{shown}: {error}", from_flag) from None


_FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}
_SECRET = ("admin_password", "jwt_secret")
