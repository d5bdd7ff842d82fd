"""REST clients: wrk for many connections, a raw blocking socket for one request at a time.

``python -m bench.rest JOB`` is the second: a keep-alive socket that sends prepared bytes and reads until the answer's
Content-Length, so that the client costs some ten microseconds a request.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from bench.loads import content
from bench.numbers import percentile
from bench.servers import Server

_SCRIPT = """
wrk.method = "POST"
wrk.body = %(body)s
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = %(authorization)s
done = function(summary, latency, requests)
  local form = '{"requests": %%d, "microseconds": %%d, "status": %%d, "socket": %%d, "p50_us": %%d, "p99_us": %%d}'
  io.write(string.format(form, summary.requests, summary.duration, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


class WrkResult(msgspec.Struct):
    """What wrk counted. ``status`` are answers of 4xx and 5xx, ``socket`` failed connects, reads, writes, time-outs."""

    requests: int
    microseconds: int
    status: int
    socket: int
    p50_us: int
    p99_us: int

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.microseconds * 1e6


def body(size: int) -> bytes:
    """The publish body whose content is a JSON string of ``size`` bytes."""
    return b'{"content":%s}' % content(size)


def wrk(server: Server, *, connections: int, seconds: float, size: int) -> WrkResult:
    """POST publishes with wrk on one thread for ``seconds``."""
    authorization = f"Bearer {server.token or 'x' * 320}"
    script = _SCRIPT % {"body": json.dumps(body(size).decode()), "authorization": json.dumps(authorization)}
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        url = f"{server.url}/queues/bench/messages"
        argv = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", file.name, url]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 60, check=True)
    match = re.search(r"\{.*\}", done.stdout)
    if match is None:
        raise RuntimeError(f"wrk printed no summary: {done.stdout[-500:]} {done.stderr[-500:]}")
    return msgspec.json.decode(match.group(), type=WrkResult)


class SingleJob(msgspec.Struct, kw_only=True):
    """``count`` publishes, each sent when the answer to the one before is read."""

    port: int
    token: str
    count: int
    payload_bytes: int


class SingleResult(msgspec.Struct, kw_only=True):
    """Milliseconds of one request, from send to the last byte of its answer."""

    p50_ms: float
    p99_ms: float


def one_at_a_time(job: SingleJob) -> SingleResult:
    """Publish over one keep-alive connection; ``RuntimeError`` on anything but 201."""
    payload = body(job.payload_bytes)
    request = (
        b"POST /queues/bench/messages HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %s\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
    ) % (job.port, job.token.encode(), len(payload), payload)
    took = []
    with socket.create_connection(("127.0.0.1", job.port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(job.count):
            start = time.perf_counter()
            connection.sendall(request)
            answer = _read_answer(connection)
            took.append(time.perf_counter() - start)
            if not answer.startswith(b"HTTP/1.1 201"):
                raise RuntimeError(f"answered {answer[:400]!r}")
    took = sorted(took[len(took) // 20 :])
    return SingleResult(p50_ms=percentile(took, 0.5) * 1e3, p99_ms=percentile(took, 0.99) * 1e3)


_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def _read_answer(connection: socket.socket) -> bytes:
    data = b""
    while True:
        part = connection.recv(65536)
        if not part:
            raise RuntimeError("the server closed the connection")
        data += part
        end = data.find(b"\r\n\r\n")
        if end >= 0 and (match := _LENGTH.search(data, 0, end)) and len(data) >= end + 4 + int(match.group(1)):
            return data


def floor(name: str, count: int, size: int, directory: Path) -> dict[str, float]:
    """Run one of ``bench.floors`` in a process of its own."""
    argv = [sys.executable, "-m", "bench.floors", name, str(count), str(size), str(directory)]
    done = subprocess.run(argv, capture_output=True, timeout=300, check=True)
    return msgspec.json.decode(done.stdout, type=dict[str, float])


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(one_at_a_time(msgspec.json.decode(sys.argv[1], type=SingleJob))))
