"""The loads, each written once against ``Client`` and so the same for every side. They run inside a client process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence

import msgspec
import psutil

from bench.clients.contract import Client
from bench.numbers import percentile

_STAMP = 20
"""Digits of the send time at the front of a content, after the opening quote."""
_WARM_UP = 500
_DEADLINE_SECONDS = 600.0
_STALL_SECONDS = 20.0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One load against one server. ``window`` counts batches of ``batch`` messages; ``rate`` is per second."""

    load: str
    side: str
    port: int
    token: str = ""
    server_pid: int
    queue: str = "bench"
    payload_bytes: int = 256
    total: int = 0
    batch: int = 100
    window: int = 1
    credit: int = 1_000
    consumers: int = 1
    rate: int = 0
    seconds: float = 0.0


class Result(msgspec.Struct, kw_only=True):
    """What a load measured: wall seconds, CPU seconds of server and client in them, and figures of its own."""

    messages: int
    seconds: float
    server_cpu: float
    client_cpu: float
    others_cpu: float
    """CPU seconds of all else on the machine; what is not small there makes a round worthless."""
    figures: dict[str, float] = {}

    @property
    def rate(self) -> float:
        """Messages per second."""
        return self.messages / self.seconds

    @property
    def cpu_ms_per_thousand(self) -> float:
        """Milliseconds of server CPU per 1,000 messages."""
        return self.server_cpu * 1e6 / self.messages


def machine_cpu() -> float:
    """CPU seconds that all processors have been busy so far."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


MakeClient = Callable[[], Client]
Load = Callable[[Job, MakeClient], Coroutine[None, None, Result]]


class Meter:
    """Wall and CPU time between its creation and ``result``."""

    def __init__(self, job: Job) -> None:
        self._server = psutil.Process(job.server_pid)
        self._cpu = self._server_cpu()
        self._client = time.process_time()
        self._machine = machine_cpu()
        self.start = time.perf_counter()

    def _server_cpu(self) -> float:
        times = self._server.cpu_times()
        return float(times.user + times.system)

    def rss(self) -> float:
        """Resident MiB of the server now."""
        return float(self._server.memory_info().rss) / 2**20

    def result(self, messages: int, figures: dict[str, float] | None = None) -> Result:
        seconds = time.perf_counter() - self.start
        client = time.process_time() - self._client
        server = self._server_cpu() - self._cpu
        others = max(machine_cpu() - self._machine - server - client, 0.0)
        return Result(
            messages=messages,
            seconds=seconds,
            server_cpu=server,
            client_cpu=client,
            others_cpu=others,
            figures=figures or {},
        )


def content(size: int, stamp: int = 0) -> bytes:
    """A JSON string of ``size`` bytes, quotes included, that starts with ``stamp``."""
    return b'"%0*d%s"' % (_STAMP, stamp, b"x" * (size - _STAMP - 2))


async def _publish_all(client: Client, job: Job, total: int) -> None:
    """``job.window`` lanes, each with one batch in flight, until ``total`` messages are confirmed."""
    batch = [content(job.payload_bytes)] * job.batch
    left = total

    async def lane() -> None:
        nonlocal left
        while left > 0:
            size = min(job.batch, left)
            left -= size
            await client.publish(batch if size == job.batch else batch[:size])

    await asyncio.gather(*(lane() for _ in range(job.window)))


async def publish(job: Job, make: MakeClient) -> Result:
    """Confirmed publishes, nobody consumes."""
    client = make()
    await client.prepare()
    await _publish_all(client, job, job.batch * 5)
    meter = Meter(job)
    await _publish_all(client, job, job.total)
    result = meter.result(job.total)
    await client.close()
    return result


class Counter:
    """Counts what consumers receive; says True (confirm this ack) for the delivery that completes ``goal``."""

    def __init__(self, goal: int) -> None:
        self.goal = goal
        self.seen = 0
        self.done = asyncio.Event()

    def __call__(self, contents: Sequence[bytes]) -> bool:
        self.seen += len(contents)
        if self.seen < self.goal:
            return False
        self.done.set()
        return True

    async def complete(self) -> None:
        """Wait for the goal; ``RuntimeError`` when nothing arrives for a while."""
        seen = -1
        while not self.done.is_set():
            if self.seen == seen:
                raise RuntimeError(f"the delivery stalled after {seen} of {self.goal} messages")
            seen = self.seen
            try:
                async with asyncio.timeout(_STALL_SECONDS):
                    await self.done.wait()
            except TimeoutError:
                continue


async def _settled(clients: Sequence[Client]) -> None:
    waits = [asyncio.ensure_future(client.settled.wait()) for client in clients]
    settled, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED, timeout=_STALL_SECONDS)
    for wait in waits:
        wait.cancel()
    if not settled:
        raise RuntimeError("the last ack was not confirmed")


async def _check(client: Client, counter: Counter) -> None:
    """Nothing may be left behind, nothing may have come twice."""
    deadline = time.monotonic() + 10
    while left := await client.unsettled():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{left} messages were not settled")
        await asyncio.sleep(0.05)
    if counter.seen != counter.goal:
        raise RuntimeError(f"{counter.seen - counter.goal} messages came twice")


async def flow(job: Job, make: MakeClient) -> Result:
    """Publish, consume and ack at once: one producer and one consumer on connections of their own."""
    producer, consumer = make(), make()
    await producer.prepare()
    counter = Counter(_WARM_UP)
    await consumer.consume(counter, job.credit)
    await _publish_all(producer, job, _WARM_UP)
    await counter.complete()
    await _settled([consumer])
    consumer.settled.clear()
    counter.done.clear()
    counter.goal += job.total
    meter = Meter(job)
    await _publish_all(producer, job, job.total)
    published = time.perf_counter() - meter.start
    await counter.complete()
    await _settled([consumer])
    result = meter.result(job.total, {"published_s": published})
    await _check(consumer, counter)
    await producer.close()
    await consumer.close()
    return result


async def drain(job: Job, make: MakeClient) -> Result:
    """Fill a backlog, then drain it; the clock runs from the first subscription to the last confirmed ack."""
    filler = make()
    await filler.prepare()
    one = content(job.payload_bytes)
    for at in range(0, job.total, 10_000):
        await filler.fill([one] * min(10_000, job.total - at))
    await filler.close()
    await asyncio.sleep(1.0)
    consumers = [make() for _ in range(job.consumers)]
    counter = Counter(job.total)
    tenth = job.total // 10
    marks: list[float] = []
    memory: list[float] = []

    def received(contents: Sequence[bytes]) -> bool:
        last = counter(contents)
        while len(marks) < counter.seen // tenth:
            marks.append(time.perf_counter())
            memory.append(meter.rss())
        return last

    meter = Meter(job)
    memory.append(meter.rss())
    for consumer in consumers:
        await consumer.consume(received, job.credit, job.consumers)
    await counter.complete()
    await _settled(consumers)
    figures = {
        "first_tenth_per_s": tenth / (marks[0] - meter.start),
        "second_tenth_per_s": tenth / (marks[1] - marks[0]),
        "last_tenth_per_s": tenth / (marks[9] - marks[8]),
        "rss_before_mib": memory[0],
        "rss_most_mib": max(memory),
    }
    result = meter.result(job.total, figures)
    await _check(consumers[0], counter)
    for consumer in consumers:
        await consumer.close()
    return result


async def latency(job: Job, make: MakeClient) -> Result:
    """Paced publishes; milliseconds from the publish call to the consumer's hand, both in this process."""
    producer, consumer = make(), make()
    await producer.prepare()
    total = int(job.rate * job.seconds)
    delays: list[int] = []
    counter = Counter(total + 1)

    def received(contents: Sequence[bytes]) -> bool:
        now = time.perf_counter_ns()
        delays.extend(now - int(each[1 : 1 + _STAMP]) for each in contents)
        return counter(contents)

    await consumer.consume(received, job.credit)
    await producer.publish([content(job.payload_bytes, time.perf_counter_ns())])
    await asyncio.sleep(0.2)
    tasks: set[asyncio.Task[None]] = set()
    meter = Meter(job)
    for number in range(total):
        wait = meter.start + number / job.rate - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        body = content(job.payload_bytes, time.perf_counter_ns())
        task = asyncio.create_task(producer.publish([body]))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await counter.complete()
    await asyncio.gather(*tasks)
    result = meter.result(total)
    measured = sorted(delays[len(delays) // 20 :])
    result.figures = {f"p{share:g}_ms": percentile(measured, share / 100) / 1e6 for share in (50, 90, 99)}
    await _settled([consumer])
    await producer.close()
    await consumer.close()
    return result


LOADS: dict[str, Load] = {"publish": publish, "flow": flow, "drain": drain, "latency": latency}


async def run(job: Job, make: MakeClient) -> Result:
    """Run the job's load; ``TimeoutError`` when it takes longer than any load should."""
    async with asyncio.timeout(_DEADLINE_SECONDS):
        return await LOADS[job.load](job, make)
