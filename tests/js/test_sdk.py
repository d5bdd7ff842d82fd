"""The JavaScript SDK: Node's own test runner over a real broker, on the oldest and the newest Node, and its types.

The tests themselves are the ``*.test.mjs`` beside this file.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.harness import PASSWORD, BrokerProcess
from tests.js.conftest import Control
from tests.system.conftest import missing

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SDK = ROOT / "web/sdk"
TSC = ROOT / "tests/npm/node_modules/.bin/tsc"
COMPILE = ("--strict", "--noEmit", "--target", "es2022", "--lib", "es2022,dom,esnext.disposable")
MODULES = ("--module", "esnext", "--moduleResolution", "bundler")


def run_tests(node: str, name: str, broker: BrokerProcess | None = None, control: Control | None = None) -> None:
    """Run one file of tests; fails with what it said. A file in which nothing ran has failed too."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("STREAMBROKER_")}
    if broker is not None:
        env |= {
            "SBTEST_URL": broker.url,
            "SBTEST_TOKEN": broker.token(),
            "SBTEST_PASSWORD": PASSWORD,
        }
    if control is not None:
        env["SBTEST_CONTROL"] = control.url
    command = [node, "--test", "--test-reporter=tap", str(HERE / name)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-4_000:]
    passed = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert passed and int(passed[1]) > 1, done.stdout


def test_parts(node: str) -> None:
    run_tests(node, "parts.test.mjs")


def test_over_a_broker(node: str, broker: BrokerProcess) -> None:
    run_tests(node, "client.test.mjs", broker)


def test_over_tokens_that_end(node: str, forgetful: BrokerProcess) -> None:
    run_tests(node, "tokens.test.mjs", forgetful)


def test_over_a_restart(node: str, control: Control) -> None:
    run_tests(node, "restart.test.mjs", control.broker, control)


def compiled(file: Path, where: Path) -> subprocess.CompletedProcess[str]:
    """Compile it. In a folder of its own, or the compiler would find Node's types there and take them in."""
    if not TSC.exists():
        missing("the npm tools are not installed (tests/npm)", possible_here=True)
    command = [str(TSC), *COMPILE, *MODULES, str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=where)


@pytest.mark.parametrize("name", ["good.ts", "bad.ts"])
def test_the_types_allow_what_they_should_and_nothing_else(name: str, tmp_path: Path) -> None:
    done = compiled(HERE / "types" / name, tmp_path)
    assert done.returncode == 0, done.stdout


def test_the_types_refuse_what_is_wrong(tmp_path: Path) -> None:
    """That `bad.ts` compiles says something only if its lines fail without their marks."""
    marked = (HERE / "types/bad.ts").read_text()
    bare = tmp_path / "bare.ts"
    bare.write_text(marked.replace("@ts-expect-error", "").replace("../../../web/sdk/", f"{SDK}/"))
    done = compiled(bare, tmp_path)
    assert done.returncode != 0
    assert len(set(re.findall(r"bare\.ts\((\d+),", done.stdout))) == marked.count("// @ts-expect-error")


def test_what_the_types_export_is_what_the_module_exports(node: str) -> None:
    listed = subprocess.run(
        [
            node,
            "--input-type=module",
            "-e",
            f"console.log(Object.keys(await import('{SDK.as_uri()}/streambroker.js')).join())",
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    declared = re.findall(r"^export class (\w+)", (SDK / "streambroker.d.ts").read_text(), re.MULTILINE)
    assert sorted(listed.stdout.strip().split(",")) == sorted(declared)


@pytest.mark.parametrize("name", ["streambroker.js", "client.js", "streambroker.d.ts", "package.json"])
def test_the_broker_serves_it_to_everybody_and_a_browser_keeps_it_as_long_as_it_is_the_same(
    broker: BrokerProcess, name: str
) -> None:
    answer = httpx.get(f"{broker.url}/sdk/{name}")
    assert answer.status_code == 200
    assert answer.content == (SDK / name).read_bytes()
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = httpx.get(f"{broker.url}/sdk/{name}", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


def test_every_module_is_within_reach_of_the_one_that_is_imported() -> None:
    """A file that nothing imports is not part of the SDK, and one that is missing breaks it."""
    seen: set[str] = set()
    waiting = ["streambroker.js"]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += re.findall(r"(?:from|import\() ?\"\./([\w-]+\.js)\"", (SDK / name).read_text())
    assert seen == {file.name for file in SDK.glob("*.js")}


def test_it_needs_no_other_package() -> None:
    for file in SDK.glob("*.js"):
        for name in re.findall(r"^(?:import|export) .*?from \"([^\"]+)\"", file.read_text(), re.MULTILINE | re.DOTALL):
            assert name.startswith("./") or (name.startswith("node:") and file.name == "node-socket.js"), (file, name)
