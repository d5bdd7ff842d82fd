"""A client process: ``python -m bench.client JOB`` runs one load on uvloop and prints its result, both as JSON."""

from __future__ import annotations

import sys

import msgspec
import uvloop

from bench.clients.contract import Client
from bench.clients.nats_jetstream import NatsClient
from bench.clients.ours import OursClient
from bench.clients.ours_sdk import SdkClient
from bench.clients.redis_streams import LeanRedisClient, RedisPyClient
from bench.loads import Job, run

CLIENTS: dict[str, type] = {
    "ours": OursClient,
    "ours-sdk": SdkClient,
    "unobserved": OursClient,
    "redis": RedisPyClient,
    "redis-lean": LeanRedisClient,
    "nats": NatsClient,
}


def main() -> None:
    """Run the job of the command line."""
    job = msgspec.json.decode(sys.argv[1], type=Job)

    def make() -> Client:
        client: Client = CLIENTS[job.side](job.port, job.token, job.queue)
        return client

    result = uvloop.run(run(job, make))
    sys.stdout.buffer.write(msgspec.json.encode(result))


if __name__ == "__main__":
    main()
