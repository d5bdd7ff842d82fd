"""The SDK without the server: what it imports, and that nothing else need be installed."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import streambroker.client

ALONE = textwrap.dedent(
    """
    import sys
    from importlib.abc import MetaPathFinder

    ALLOWED = {"streambroker", *sys.argv[1].split(",")}
    OURS = ("streambroker.client", "streambroker.core", "streambroker.protocol")

    class Nothing(MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names:
                return None
            if top not in ALLOWED or (name != "streambroker" and top == "streambroker" and not name.startswith(OURS)):
                raise ModuleNotFoundError(f"{name} is not installed here", name=name)
            return None

    sys.meta_path.insert(0, Nothing())
    import asyncio
    import streambroker.client
    client = streambroker.client.SyncClient("http://127.0.0.1:9", token="t", environment={})
    client.close()
    print(sorted(name for name in sys.modules if name in ("starlette", "uvicorn", "sqlalchemy", "sqlite3", "jwt")))
    """
)
# The three that the SDK names, and what httpx brings with it.
LIBRARIES = (
    "httpx", "msgspec", "websockets",
    "httpcore", "anyio", "certifi", "h11", "idna", "sniffio", "typing_extensions",
)  # fmt: skip


def imported(libraries: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", ALONE, ",".join(libraries)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)


def test_the_sdk_works_without_anything_of_the_server() -> None:
    done = imported(LIBRARIES)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_hook_that_this_relies_on_refuses_what_it_should() -> None:
    done = imported(tuple(library for library in LIBRARIES if library != "websockets"))
    assert "websockets" in done.stderr and done.returncode == 1


def test_everything_that_is_offered_is_there() -> None:
    assert [name for name in streambroker.client.__all__ if not hasattr(streambroker.client, name)] == []
