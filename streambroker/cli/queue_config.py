"""The options of `queue create` and `queue set`: one for each member of a queue's configuration."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

import typer

from streambroker.cli.values import complete_queue, duration

_DURATION: dict[str, Any] = {"parser": duration, "metavar": "DURATION"}
_OPTIONS: dict[str, tuple[Any, Any]] = {
    "lease_ms": (int, typer.Option("--lease", help="How long a delivery is leased.", **_DURATION)),
    "max_attempts": (
        int,
        typer.Option("--max-attempts", min=0, help="Failures after which a message is given up; 0: never."),
    ),
    "dead_letter_queue": (
        str,
        typer.Option(
            "--dead-letter-queue",
            metavar="QUEUE",
            help="Where given-up messages go; '' for nowhere.",
            autocompletion=complete_queue,
        ),
    ),
    "message_ttl_ms": (int, typer.Option("--message-ttl", help="Life of a message; 0: for ever.", **_DURATION)),
    "max_messages": (
        int,
        typer.Option("--max-messages", min=0, help="Most messages pending and processing; 0: any number."),
    ),
    "overflow": (Literal["reject", "drop_oldest"], typer.Option("--overflow", help="What happens at the most.")),
    "retention_ms": (int, typer.Option("--retention", help="How long processed messages stay.", **_DURATION)),
    "dedup_window_ms": (int, typer.Option("--dedup-window", help="How long a dedup id is remembered.", **_DURATION)),
    "durability": (
        Literal["fsync", "memory"],
        typer.Option("--durability", help="Whether a publish waits for the disk."),
    ),
}
_BACKOFF: dict[str, tuple[Any, Any]] = {
    "kind": (Literal["exponential", "fixed"], typer.Option("--backoff", help="How waits after a nack grow.")),
    "base_ms": (int, typer.Option("--backoff-base", help="The first wait.", **_DURATION)),
    "factor": (float, typer.Option("--backoff-factor", min=1, max=100, help="By which it grows.")),
    "max_ms": (int, typer.Option("--backoff-max", help="The longest wait.", **_DURATION)),
    "jitter": (bool, typer.Option("--backoff-jitter/--no-backoff-jitter", help="Spread the waits.")),
}

Given = dict[str, Any]


def takes_config(command: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """The command with these options in place of its last two parameters.

    Those get what was given, as the broker names it: of the configuration, and of its `backoff`.
    """

    @functools.wraps(command)
    async def run(*args: Any, **kwargs: Any) -> None:
        config, backoff = _taken(kwargs, _OPTIONS, ""), _taken(kwargs, _BACKOFF, "backoff_")
        if config.get("dead_letter_queue") == "":
            config["dead_letter_queue"] = None
        await command(*args, **kwargs, config=config, backoff=backoff)

    signature = inspect.signature(command, eval_str=True, locals={"Rest": object})
    own = list(signature.parameters.values())[:-2]
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*own, *_parameters(_OPTIONS, ""), *_parameters(_BACKOFF, "backoff_")]
    )
    return run


def _parameters(options: dict[str, tuple[Any, Any]], prefix: str) -> list[inspect.Parameter]:
    return [
        inspect.Parameter(
            prefix + name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[type_ | None, option]
        )
        for name, (type_, option) in options.items()
    ]


def _taken(kwargs: Given, options: dict[str, tuple[Any, Any]], prefix: str) -> Given:
    taken = {name: kwargs.pop(prefix + name) for name in options}
    return {name: value for name, value in taken.items() if value is not None}
