"""The wheel, installed where nothing else is: as a broker without extras, and as the SDK alone."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.deploy.dockerfile import ROOT
from tests.deploy.installed import Installed, run
from tests.harness import PASSWORD, BrokerProcess

PAGES = ["/dashboard", "/docs", "/redoc", "/sdk/streambroker.js", "/sdk/streambroker.d.ts"]
"""Served from files of the wheel; one of each directory in web/ that needs no extra."""
USE_THE_SDK = """\
import asyncio, sys
from streambroker.client import Client, SyncClient

async def both_doors(url, password):
    async with Client(url, username="admin", password=password) as client:
        await client.publish("alone", {"n": 1})
        async for message in client.consume("alone", credit=1):
            print(message.content)
            await message.ack()
            return

asyncio.run(both_doors(sys.argv[1], sys.argv[2]))
with SyncClient(sys.argv[1], username="admin", password=sys.argv[2]) as client:
    print(client.publish("alone", b"raw").duplicate)
"""


def python(environment: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Python of that environment, which sees nothing of this checkout."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "STREAMBROKER_"))}
    argv = [str(environment / "bin/python"), *arguments]
    return subprocess.run(argv, cwd=cwd, env=clean, capture_output=True, text=True, timeout=60, check=False)


def test_the_wheel_holds_all_of_the_package_and_of_web_and_nothing_else(installed: Installed) -> None:
    tracked = run(["git", "ls-files", "-co", "--exclude-standard", "streambroker", "web"], ROOT).splitlines()
    ours = {name.replace("web/", "streambroker/web/", 1) if name.startswith("web/") else name for name in tracked}
    ours = {name for name in ours if (installed.source / name.replace("streambroker/web/", "web/")).exists()}
    with zipfile.ZipFile(installed.wheel) as wheel:
        inside = {name for name in wheel.namelist() if ".dist-info/" not in name and not name.endswith("/")}
    assert inside == ours - {"streambroker/web/README.md"}
    assert "streambroker/py.typed" in inside


def test_an_installation_has_all_that_its_packages_ask_for(installed: Installed) -> None:
    pip = str(installed.directory / "opt/build/bin/pip")
    for environment in (installed.bare, installed.image):
        assert run([pip, "--python", str(environment), "check"], installed.source).startswith("No broken requirements")


def test_a_broker_without_extras_serves_the_pages_and_takes_messages(installed: Installed, tmp_path: Path) -> None:
    command = (str(installed.bare / "bin/streambroker"), "serve")
    with BrokerProcess(tmp_path / "data", command=command) as broker:
        with broker.client() as client:
            assert client.post("/queues/q/messages", json={"content": {"n": 1}}).status_code in (200, 201)
            found = {path: client.get(path, follow_redirects=True).status_code for path in PAGES}
            assert found == dict.fromkeys(PAGES, 200)
            refused = client.post("/graphql", json={"query": "{ __typename }"})
        assert refused.status_code >= 400 and "streambroker[graphql]" in refused.text
        assert broker.terminate() == 0


def test_a_webhook_without_its_extra_is_refused_with_its_name(installed: Installed, tmp_path: Path) -> None:
    command = (str(installed.bare / "bin/streambroker"), "serve")
    with BrokerProcess(tmp_path / "data", command=command) as broker, broker.client() as client:
        refused = client.post("/queues/q/webhooks", json={"url": "https://example.com/"})
    assert refused.status_code >= 400 and "streambroker[webhooks]" in refused.text


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["health", "--help"], ["config", "check"]])
def test_commands_that_need_no_extra_work_without(installed: Installed, tmp_path: Path, arguments: list[str]) -> None:
    done = python(installed.bare, "-m", "streambroker", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize(
    ("arguments", "extra"), [(["publish", "q", "x"], "cli"), (["top"], "cli"), (["cert"], "cert")], ids=str
)
def test_a_command_says_which_extra_it_needs(
    installed: Installed, tmp_path: Path, arguments: list[str], extra: str
) -> None:
    done = python(installed.bare, "-m", "streambroker", *arguments, cwd=tmp_path)
    assert done.returncode == 69
    assert f"pip install 'streambroker[{extra}]'" in done.stderr and "Traceback" not in done.stderr


def test_the_sdk_works_with_three_libraries_and_nothing_of_the_server(installed: Installed, tmp_path: Path) -> None:
    without = python(installed.sdk, "-c", "import starlette", cwd=tmp_path)
    assert "ModuleNotFoundError" in without.stderr
    with BrokerProcess(tmp_path / "data", command=(str(installed.bare / "bin/streambroker"), "serve")) as broker:
        done = python(installed.sdk, "-c", USE_THE_SDK, broker.url, PASSWORD, cwd=tmp_path)
        assert (done.stdout, done.stderr, done.returncode) == ("{'n': 1}\nFalse\n", "", 0)
        assert httpx.get(f"{broker.url}/healthz", trust_env=False).status_code == 200
