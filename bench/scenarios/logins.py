"""A flood of logins: what everybody else notices of it, and what it costs in memory."""

from __future__ import annotations

import asyncio
import json
import time
from functools import partial

from bench.figures import Goal, Outcome
from bench.numbers import percentile
from bench.plan import Plan
from bench.scenarios.common import Progress, Taker, Values, prose, rounds
from bench.servers import LIMITS_OFF, PASSWORD, Server, running

_MIB = 1024 * 1024
_PAUSE_S = 0.005


def logins(plan: Plan, progress: Progress) -> Outcome:
    """Logins in waves, all of a wave at once, while somebody else asks for `/healthz`."""
    outcome = Outcome(
        name="logins",
        title="Logins all at once",
        method=prose(f"""
            {plan.login_seconds:.0f} s of waves of {plan.logins_at_once} logins with the right password, each on a
            connection of its own, the next wave when all are answered; rate limits off, so that only the password pool
            holds them back. Another client asks for /healthz every 5 ms meanwhile (`flood`), and before (`quiet`).
            `refused` is how long a login waited that was answered 429.
        """),
        goals=[
            Goal(text="/healthz p99 under 200 parallel logins", ours="health.flood.p99", better="lower", least=100.0),
            Goal(text="memory that 200 parallel logins add", ours="memory.flood.rss", better="lower", least=100.0),
            Goal(text="a login too many is refused, p99", ours="refused.flood.p99", better="lower", least=50.0),
        ],
    )
    taker = Taker(outcome, plan, progress)
    for number, _ in rounds(plan.rounds, ("ours",)):
        progress(f"logins: round {number}/{plan.rounds}")
        with running("ours", LIMITS_OFF) as server:
            before = server.rss()
            taker.take("health", "quiet", partial(_quiet, server))
            flood = asyncio.run(_flood(server, plan))
            taker.take("health", "flood", partial(_latencies, flood.health))
            taker.take("refused", "flood", partial(_latencies, flood.refused))
            taker.take("memory", "flood", partial(_added, server, before))
    return outcome


class _Flood:
    """What came of it, in milliseconds."""

    def __init__(self) -> None:
        self.health: list[float] = []
        self.refused: list[float] = []
        self.over = False


def _added(server: Server, before: int) -> Values:
    return [("rss", "MiB", (server.rss() - before) / _MIB)]


def _latencies(took: list[float]) -> Values:
    return [("p50", "ms", percentile(sorted(took), 0.5)), ("p99", "ms", percentile(sorted(took), 0.99))]


def _quiet(server: Server) -> Values:
    async def ask() -> list[float]:
        flood = _Flood()
        asking = asyncio.create_task(_health(server, flood))
        await asyncio.sleep(1)
        flood.over = True
        await asking
        return flood.health

    return _latencies(asyncio.run(ask()))


async def _flood(server: Server, plan: Plan) -> _Flood:
    flood = _Flood()
    asking = asyncio.create_task(_health(server, flood))
    end = time.perf_counter() + plan.login_seconds
    while time.perf_counter() < end:
        await asyncio.gather(*(_login(server, flood) for _ in range(plan.logins_at_once)))
    flood.over = True
    await asking
    return flood


async def _login(server: Server, flood: _Flood) -> None:
    body = json.dumps({"username": "admin", "password": PASSWORD}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    began = time.perf_counter()
    writer.write(
        b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    status = (await reader.readline()).split()[1]
    if status == b"429":
        flood.refused.append((time.perf_counter() - began) * 1_000)
    elif status != b"200":
        raise RuntimeError(f"a login was answered {status!r}")
    writer.close()


async def _health(server: Server, flood: _Flood) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    while not flood.over:
        began = time.perf_counter()
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        flood.health.append((time.perf_counter() - began) * 1_000)
        await asyncio.sleep(_PAUSE_S)
    writer.close()
