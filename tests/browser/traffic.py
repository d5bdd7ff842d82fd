"""Work that goes on in the background while a test looks at the dashboard."""

from __future__ import annotations

import math
import threading
from types import TracebackType

from tests.harness import BrokerProcess
from tests.wire.doors import Messages, Queue

PAUSE_S = 0.08
TAKEN_AT_ONCE = 25
LATER_MS = 45_000


class Traffic:
    """Publishes into a queue, takes most of it out again, and settles that in every way, until the block ends.

    Every third round leaves a message for later, every tenth one processing and one failed, so that every figure moves.
    The rounds are of different sizes, as a day's work is. `size` more bytes are in each message.
    """

    def __init__(self, broker: BrokerProcess, *queues: str, size: int = 0) -> None:
        self._broker = broker
        self._queues = queues
        self._size = size
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._failure: BaseException | None = None

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._end.set()
        self._thread.join(30)
        if error is None and self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            with self._broker.client() as client:
                queues = [Queue(client, name) for name in self._queues]
                turn = 0
                while not self._end.wait(PAUSE_S):
                    for offset, queue in enumerate(queues):
                        self._round(queue, Messages(client), turn + 7 * offset)
                    turn += 1
        except BaseException as error:
            self._failure = error

    def _round(self, queue: Queue, messages: Messages, turn: int) -> None:
        count = 6 + round(4 * math.sin(turn / 40)) + turn % 3
        key = f"customer-{turn % 23}"
        queue.publish_many(*(self._content(turn, at) for at in range(count)), key=key)
        if turn % 3 == 0:
            queue.publish(self._content(turn, count), key=key, delay_ms=LATER_MS)
        for at, message in enumerate(queue.take_many(TAKEN_AT_ONCE)):
            if turn % 10 == 0 and at == 0:
                continue
            if turn % 10 == 0 and at == 1:
                messages.nack(message, reason="the address does not exist")
            else:
                messages.ack(message)

    def _content(self, turn: int, at: int) -> dict[str, object]:
        content: dict[str, object] = {"order": 1000 + turn, "line": at, "customer": f"customer-{turn % 23}"}
        return {**content, "filling": "x" * self._size} if self._size else content
