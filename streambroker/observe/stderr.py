"""Standard error as a place for log lines."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TextIO

from streambroker.observe.outlet import Event


class Stderr:
    """Writes events as `render` makes them; where nobody reads them any more they are lost, and nothing is raised."""

    def __init__(self, stream: TextIO, render: Callable[[Event], bytes]) -> None:
        self._stream = stream
        self._render = render
        # By its descriptor: a thread that hangs in a write must not hold the lock that the interpreter's end needs.
        self._descriptor = _descriptor(stream)

    def write(self, event: Event) -> None:
        """Write one line."""
        line = self._render(event)
        try:
            if self._descriptor is None:
                self._stream.write(line.decode("utf-8", "replace"))
                self._stream.flush()
            else:
                _write_all(self._descriptor, line)
        except (OSError, ValueError):
            pass


def _write_all(descriptor: int, line: bytes) -> None:
    while line:
        line = line[os.write(descriptor, line) :]


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None
