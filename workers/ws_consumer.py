"""Takes jobs over one WebSocket: `python -m workers.ws_consumer --name socket-1 --credit 4`.

The lease is the session's: a job may take as long as it needs while the connection lives, and is handed to somebody
else when it dies. After a cut or a restart of the broker the worker comes back by itself, with growing pauses.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from workers import jobs, wire

SUBPROTOCOL = Subprotocol("streambroker.v1+json")
MAX_FRAME = 8 * 1024 * 1024
ANSWER_WITHIN_S = 30
TOKEN_OVER = {4401, 4450}
NO_USE_COMING_BACK = {4400: "malformed", 4403: "forbidden", 4404: "not_found"}

Frame = dict[str, Any]


class Session:
    """One connection: owns the answers that are waited for and the deliveries that nobody has begun yet."""

    def __init__(self, socket: ClientConnection) -> None:
        self.token_expires = asyncio.Event()
        self._socket = socket
        self._ids = count(1)
        self._answers: dict[int, asyncio.Future[Frame]] = {}
        self._waiting: dict[str, wire.Delivery] = {}  # by id, in order of arrival; bounded by the credit
        self._arrival = asyncio.Event()

    async def read(self) -> None:
        """Take in what the broker sends; ends only with the connection, by ``ConnectionClosed``."""
        while True:
            received = json.loads(await self._socket.recv())
            for frame in received if isinstance(received, list) else [received]:
                self._take(frame)

    def _take(self, frame: Frame) -> None:
        match frame:
            case {"op": "deliver", "messages": messages}:
                for message in messages:
                    self._waiting[message["message_id"]] = wire.Delivery.from_json(message)
                self._arrival.set()
            case {"op": "ok" | "error", "id": int(number)} if answer := self._answers.pop(number, None):
                if not answer.done():
                    answer.set_result(frame)
            case {"op": "lease_lost", "ids": message_ids}:
                for message_id in message_ids:
                    self._waiting.pop(message_id, None)
            case {"op": "expiring"}:
                self.token_expires.set()

    async def ask(self, op: str, **fields: Any) -> Frame:
        """Send one request and wait for its answer; raises ``RefusedError`` when that is an error."""
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"op": op, "id": number, **fields}))
        async with asyncio.timeout(ANSWER_WITHIN_S):
            frame: Frame = await answer
        if frame["op"] == "error":
            raise wire.RefusedError(frame["problem"])
        return frame

    async def next_delivery(self) -> wire.Delivery:
        """The oldest delivery that is still ours."""
        while not self._waiting:
            self._arrival.clear()
            await self._arrival.wait()
        return self._waiting.pop(next(iter(self._waiting)))


class Worker:
    """Consumes one queue until it is told to stop, over as many connections as it takes."""

    def __init__(self, account: wire.Account, queue: str, name: str, credit: int) -> None:
        self.account = account
        self.queue = queue
        self.name = name
        self.credit = credit
        self._token = ""

    async def consume(self, stop: wire.Stop) -> None:
        """Raises ``RefusedError`` when there is no use in coming back."""
        async with wire.rest(self.account) as client:
            pauses = wire.backoff()
            while not stop.asked:
                try:
                    self._token = self._token or await stop.interrupts(wire.fresh_token(client, self.account)) or ""
                    async with self._connect() as socket:
                        pauses = wire.backoff()
                        await self._serve(Session(socket), client, stop)
                except (OSError, TimeoutError, WebSocketException, wire.RefusedError, ExceptionGroup) as end:
                    for error in leaves(end):
                        self._judge(error)
                    await stop.interrupts(asyncio.sleep(next(pauses)))

    def _connect(self) -> connect:
        return connect(
            f"ws{self.account.url.removeprefix('http')}/ws",
            additional_headers={"Authorization": f"Bearer {self._token}"},
            subprotocols=[SUBPROTOCOL],
            compression=None,
            max_size=MAX_FRAME,
            proxy=None,
        )

    async def _serve(self, session: Session, client: httpx.AsyncClient, stop: wire.Stop) -> None:
        """Work on one connection until it ends or a stop is asked for; leaving it cleanly gives back what is held."""
        async with asyncio.TaskGroup() as group:
            background = group.create_task(session.read()), group.create_task(self._renew(session, client))
            await session.ask("subscribe", queue=self.queue, credit=self.credit, lease_mode="session")
            while delivery := await stop.interrupts(session.next_delivery()):
                await self._work(session, delivery)
            for task in background:
                task.cancel()

    async def _renew(self, session: Session, client: httpx.AsyncClient) -> None:
        while await session.token_expires.wait():
            session.token_expires.clear()
            self._token = await wire.fresh_token(client, self.account)
            await session.ask("refresh", token=self._token)

    async def _work(self, session: Session, delivery: wire.Delivery) -> None:
        """Do one job, leave its result, then settle it: in this order a crash repeats work, and never loses it."""
        # In a thread, so that the connection goes on answering pings: they are what keeps the lease.
        verdict: jobs.Verdict = await asyncio.to_thread(jobs.perform, delivery.content, delivery.attempt)
        if isinstance(verdict, jobs.Done) and delivery.reply_to:
            try:
                reply = delivery.reply(verdict.result, self.name)
                await session.ask("publish", queue=delivery.reply_to, messages=[reply])
            except wire.RefusedError as error:
                verdict = jobs.Later(f"the result could not be left: {error}")
        verb, fields = jobs.settlement(verdict)
        answer = (await session.ask(verb, ids=[delivery.message_id], **fields))["results"][0]
        outcome = "" if answer["ok"] else f", but {answer['code']}"
        print(f"{self.name}: {delivery.message_id} attempt {delivery.attempt}: {verdict}{outcome}", flush=True)

    def _judge(self, error: Exception) -> None:
        """What a connection's end says about the next one; raises when there is no use in one."""
        match error:
            case ConnectionClosed() if error.rcvd and error.rcvd.code in NO_USE_COMING_BACK:
                problem = {"code": NO_USE_COMING_BACK[error.rcvd.code], "detail": error.rcvd.reason}
                raise wire.RefusedError(problem) from error
            case ConnectionClosed() if error.rcvd and error.rcvd.code in TOKEN_OVER:
                self._token = ""
            case InvalidStatus() if error.response.status_code == httpx.codes.UNAUTHORIZED:
                self._token = ""
            case wire.RefusedError() if not error.retryable:
                raise error
            case OSError() | TimeoutError() | WebSocketException() | wire.RefusedError():
                pass
            case _:
                raise error
        print(f"{self.name}: coming back after {error!r}", flush=True)


def leaves(error: Exception) -> Iterator[Exception]:
    """The errors themselves, out of the groups in which tasks that run together raise them."""
    if isinstance(error, ExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


async def main() -> None:
    parser = wire.options("Take jobs over one WebSocket.")
    parser.add_argument("--name", default="socket", help="what this worker calls itself in its results (%(default)s)")
    parser.add_argument("--credit", type=int, default=4, help="how many jobs it holds at a time (%(default)s)")
    arguments = parser.parse_args()
    account = wire.account(parser, arguments.url)
    try:
        await Worker(account, arguments.queue, arguments.name, arguments.credit).consume(wire.Stop())
    except wire.RefusedError as error:
        sys.exit(f"{arguments.name}: {error}")


if __name__ == "__main__":
    asyncio.run(main())
