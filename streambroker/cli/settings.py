"""One option for each setting of the broker, for the commands that take them all."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_args

import typer

from streambroker.config import FIELDS, shown


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each setting, and one for the file that may hold them."""
    command.__signature__ = _options()  # type: ignore[attr-defined]
    command.__annotations__ = {name: p.annotation for name, p in _options().parameters.items()}
    return command


def _options() -> inspect.Signature:
    parameters = [_option("config", str, "A TOML file with settings.")]
    for name, field in FIELDS.items():
        about = next(meta.description for meta in get_args(field.type) if getattr(meta, "description", None))
        default = shown(name, field.default).strip('"')
        about += "" if field.default in (None, ()) else f" [default: {default}]"
        type_ = bool if name == "insecure" else list[str] if isinstance(field.default, tuple) else str
        parameters.append(_option(name, type_, about))
    return inspect.Signature(parameters)


def _option(name: str, type_: Any, about: str) -> inspect.Parameter:
    spelled, together = f"--{name.replace('_', '-')}", _together if type_ == list[str] else None
    option = typer.Option(spelled, help=about.replace("[", r"\["), show_default=False, callback=together)
    annotation = Annotated[type_ | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _together(given: list[str] | None) -> list[str] | None:
    """An option that is given more than once adds to the list, as if all of it had been given with commas."""
    return [part.strip() for text in given for part in text.split(",") if part.strip()] if given else None
