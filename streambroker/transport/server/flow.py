"""When a connection is read."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.flow_control import FlowControl


class Flow(FlowControl):
    """Can be held: then nothing is read, whatever the application has room for."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self.held = False

    def pause_reading(self) -> None:
        if not self.held:
            super().pause_reading()

    def hold(self) -> None:
        """Read nothing until `release`."""
        self.pause_reading()
        self.held = True
        self.read_paused = False  # so that `resume_reading`, which each request calls, finds nothing to do

    def release(self, *, read: bool) -> None:
        """Hold it no longer; `read` now, or when the application has room."""
        self.held = False
        self.read_paused = True
        if read:
            self.resume_reading()
