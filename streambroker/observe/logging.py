"""Logs: structlog and the standard library's loggers, in colour on a terminal, as JSON elsewhere and in files.

A module logs with either, and gives what belongs to a line as fields beside its sentence:

    logging.getLogger(__name__).info("session revoked", extra={"user": name, "request_id": number})
    structlog.stdlib.get_logger(__name__).info("session revoked", user=name, request_id=number)

Whoever logs makes a plain, redacted copy of the line and goes on; threads write it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal

import structlog
from structlog.contextvars import get_contextvars

from streambroker.observe.outlet import Event, Outlet
from streambroker.observe.redaction import Redaction, printable
from streambroker.observe.rotation import RotatingFile
from streambroker.observe.stderr import Stderr

Format = Literal["auto", "json", "console"]

_CLOSE_DEADLINE_S = 3.0
_ORDINARY = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message", "_logger", "_name"}


class Logs:
    """Where this process's log goes; made by `configure`, closed at the end so that nothing that waits is lost."""

    def __init__(self, intake: Intake, stderr: Outlet, files: Outlet, file: RotatingFile) -> None:
        self._intake = intake
        self._stderr = stderr
        self._files = files
        self._file = file

    def keep(self, directory: Path | None) -> None:
        """Write JSON lines into files there too, what was logged before among them; None: keep none."""
        if directory is None:
            self._intake.outlets = (self._stderr,)
            return
        self._file.place(directory)
        # There is a file from the first moment, and in it a mark for every start.
        self._files.put(_event("info", __name__, "the log goes to files from here on"))
        self._files.start()

    def close(self) -> None:
        """Write what waits, for a few seconds at most. What is logged later goes to stderr alone, without a thread."""
        self._intake.outlets = (self._stderr,)
        if self._files.close(_CLOSE_DEADLINE_S):
            self._file.close()
        self._stderr.close(_CLOSE_DEADLINE_S)

    def __enter__(self) -> Logs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def configure(format_: Format, level: str, secrets: Iterable[str | None] = ()) -> Logs:
    """Send all logs of this process to stderr, and to files once `Logs.keep` says where.

    ``auto`` is for people on a terminal, in colour unless ``NO_COLOR`` is set, and JSON elsewhere. `level` is for the
    broker's own loggers; libraries only warn, because at lower levels they repeat what they were given, tokens and
    payloads included. `secrets` are texts that are masked wherever they stand, beside all that looks like one.
    """
    terminal = sys.stderr.isatty()
    as_json = format_ == "json" or (format_ == "auto" and not terminal)
    stderr = Stderr(sys.stderr, as_json_line if as_json else _console(terminal and _wants_colour()))
    to_stderr = Outlet("log to stderr", stderr.write)
    file = RotatingFile(lambda text: to_stderr.put(_event("warning", __name__, text)))
    to_files = Outlet("log to files", lambda event: file.write(as_json_line(event)))
    intake = Intake((to_stderr, to_files), Redaction(secret for secret in secrets if secret))
    root = logging.getLogger()
    root.handlers[:] = [intake]
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
    logging.getLogger("streambroker").setLevel(level.upper())
    logging.captureWarnings(True)
    _quieten_uvicorn()
    _configure_structlog()
    to_stderr.start()
    return Logs(intake, to_stderr, to_files, file)


class Intake(logging.Handler):
    """Makes each record plain and free of secrets, in the thread that logs, and hands it to the outlets.

    What structlog has bound in the context (`structlog.contextvars`) is added; a line's own fields go before it.
    """

    def __init__(self, outlets: tuple[Outlet, ...], redaction: Redaction) -> None:
        super().__init__()
        self.outlets = outlets
        self._redaction = redaction

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises, and never prints what the record holds, as the standard library's handlers do."""
        try:
            head = _event(record.levelname.lower(), record.name, "")
            event = self._redaction.event({**head, **get_contextvars(), **_fields(record, self._redaction)})
        except Exception as error:
            place = f"{record.module}:{record.lineno}"
            text = f"a line of the log could not be made at {place}: {type(error).__name__}"
            event = _event("error", __name__, text)
        for outlet in self.outlets:
            outlet.put(event)


def as_json_line(event: Event) -> bytes:
    """One line of JSON in UTF-8; what UTF-8 cannot hold is left as JSON's own escape."""
    return json.dumps(event, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _event(level: str, logger: str, text: str) -> Event:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"timestamp": now, "level": level, "logger": logger, "event": text}


def _fields(record: logging.LogRecord, redaction: Redaction) -> dict[str, object]:
    """What a record says, its exception as text among it."""
    if isinstance(record.msg, dict):
        fields: dict[str, object] = dict(record.msg)
    else:
        named = redaction.event(record.args) if isinstance(record.args, Mapping) else None
        message = record.getMessage() if named is None else str(record.msg) % named
        fields = {name: value for name, value in vars(record).items() if name not in _ORDINARY}
        # asyncio adds the call that failed with its arguments, a piece of a payload perhaps.
        fields["event"] = message.partition("\n")[0] if record.name == "asyncio" else message.rstrip()
    if record.exc_info and record.exc_info[0] is not None:
        fields["exception"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
    return fields


def _wants_colour() -> bool:
    """Whether colours may be used on a terminal; see https://no-color.org."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _console(colours: bool) -> Callable[[Event], bytes]:
    # A plain traceback: the rich one shows local variables, and so payloads and secrets.
    renderer = structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)

    def render(event: Event) -> bytes:
        harmless = {printable(name): _harmless(name, value) for name, value in event.items()}
        return renderer(None, "", harmless).encode("utf-8", "backslashreplace") + b"\n"

    return render


def _harmless(name: str, value: object) -> object:
    """The value with nothing in it that would steer a terminal."""
    match value:
        case str() if name == "exception":
            return "\n".join(map(printable, value.splitlines()))
        case str():
            return printable(value)
        case Mapping():
            return {printable(str(key)): _harmless("", part) for key, part in value.items()}
        case list():
            return [_harmless("", part) for part in value]
        case _:
            return value


def _quieten_uvicorn() -> None:
    logger = logging.getLogger("uvicorn.error")
    # At INFO it logs the URL of every WebSocket, with its query; so it also does when somebody lets libraries talk.
    logger.setLevel(logging.WARNING)
    if _is_news not in logger.filters:
        logger.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Not that a WebSocket was refused, which a flood of bad tokens would repeat for ever."""
    return "without completing handshake" not in record.getMessage()


def _configure_structlog() -> None:
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
