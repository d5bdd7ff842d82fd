"""The machine, the disk and the versions a run was made with; nothing that names the host or a path."""

from __future__ import annotations

import platform
import re
import shutil
import sqlite3
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import psutil

from bench.floors import append_sync
from bench.servers import nats_server_binary, scratch

LIBRARIES = (
    "uvicorn",
    "starlette",
    "websockets",
    "uvloop",
    "httptools",
    "msgspec",
    "orjson",
    "nats-py",
    "redis",
    "hiredis",
)


def describe(directory: Path) -> dict[str, str]:
    """Facts for the head of a report; ``directory`` tells which file system is measured."""
    facts = {
        "machine": f"{psutil.cpu_count()} x {_cpu_model()}, {psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, {_file_system(directory)}",
        "load at the start": " ".join(f"{value:.2f}" for value in psutil.getloadavg()),
        "Python": f"{platform.python_version()}, stdlib sqlite3 with SQLite {sqlite3.sqlite_version}",
        "libraries": ", ".join(f"{name} {_version(name)}" for name in LIBRARIES),
        "Redis": _first_line(["redis-server", "--version"], r"v=(\S+)"),
        "NATS": _first_line([nats_server_binary(), "--version"], r"v?(\d\S+)"),
        "wrk": _first_line(["wrk", "-v"], r"(wrk \S+)"),
        "streambroker": _first_line(["git", "describe", "--always", "--dirty"], r"(\S+)"),
    }
    if psutil.LINUX and "tmpfs" in facts["system"]:
        raise RuntimeError("the benchmark directory lies on tmpfs: fsync costs nothing there and every ratio is wrong")
    return facts


def _cpu_model() -> str:
    try:
        match = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        match = None
    return match.group(1).strip() if match else platform.processor() or platform.machine()


def _file_system(directory: Path) -> str:
    mounts = [part for part in psutil.disk_partitions(all=True) if directory.is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown file system"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def _first_line(argv: list[str], pattern: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "absent"
    match = re.search(pattern, done.stdout + done.stderr)
    return match.group(1) if match else "unknown"


def disk() -> str:
    """What one fsynced write costs here, as the run starts."""
    directory = scratch()
    try:
        took = append_sync(directory, 200)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return f"4 KiB append + fdatasync: p50 {took['p50_ms']:.2f} ms, p99 {took['p99_ms']:.2f} ms"


def durability() -> dict[str, str]:
    """What a confirmed publish means on each side, as configured here."""
    return {
        "ours": "committed and fsynced before the reply (SQLite WAL, synchronous=FULL)",
        "redis": "Redis Streams, appendonly with appendfsync always: fsynced before the reply; RDB and AOF rewrite off",
        "nats": "JetStream file storage, defaults: written, **not** fsynced (every 2 minutes)",
        "bare": f"nothing is stored: Starlette {_version('starlette')} on uvicorn, Python {sys.version_info.major}"
        f".{sys.version_info.minor}",
    }
