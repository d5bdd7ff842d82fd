"""Logs: structlog in front of the standard library's, in colour on a terminal, as JSON elsewhere."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog


def configure(format_: Literal["auto", "json", "console"], level: str) -> None:
    """Send all logs to stderr. ``auto`` is colour on a terminal and JSON elsewhere."""
    as_json = format_ == "json" or (format_ == "auto" and not sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info if as_json else _as_is,
    ]
    renderer = structlog.processors.JSONRenderer() if as_json else _console()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # It logs the URL of every WebSocket, with its query.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    # It repeats every frame at debug level, tokens and payloads included.
    logging.getLogger("websockets").setLevel(logging.WARNING)


def _is_news(record: logging.LogRecord) -> bool:
    """Not that a WebSocket was refused, which a flood of bad tokens would repeat for ever."""
    return "without completing handshake" not in record.getMessage()


def _console() -> structlog.dev.ConsoleRenderer:
    # A plain traceback: the rich one shows local variables, and so payloads and secrets.
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)


def _as_is(logger: object, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return event
