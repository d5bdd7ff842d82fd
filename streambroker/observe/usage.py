"""What this process takes of the machine."""

from __future__ import annotations

import psutil

MEBIBYTE = 1024 * 1024


class Usage:
    """As of the last `look`, so that many may be told of it and only one measures."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call only sets the mark that the next one measures from
        self.cpu_percent = 0.0
        """Of one core, since the look before: two busy cores are 200."""
        self.memory_mb = 0.0
        """Resident, in MiB."""
        self._weigh()

    def look(self) -> None:
        """Measure; takes some 30 µs."""
        self.cpu_percent = self._process.cpu_percent()
        self._weigh()

    def _weigh(self) -> None:
        self.memory_mb = round(self._process.memory_info().rss / MEBIBYTE, 1)
