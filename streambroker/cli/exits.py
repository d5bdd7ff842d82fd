"""How the command ends: exit codes, and the one line that says why."""

from __future__ import annotations

import sys
from enum import IntEnum
from typing import NoReturn


class Exit(IntEnum):
    """Exit codes, as in BSD's sysexits.h; `REFUSED` and `INTERRUPTED` as most commands have them."""

    REFUSED = 1
    USAGE = 64
    DAMAGED = 65
    UNREADABLE = 66
    UNAVAILABLE = 69
    CANNOT_USE = 73
    INPUT_OUTPUT = 74
    NOT_NOW = 75
    NOT_ALLOWED = 77
    CONFIGURATION = 78
    INTERRUPTED = 130


def fail(code: Exit, error: Exception | str) -> NoReturn:
    """Say what is wrong on stderr, and end with that code."""
    sys.stderr.write(f"streambroker: {error}\n")
    sys.exit(code)
