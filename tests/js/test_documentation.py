"""Every piece of JavaScript in the documentation runs, as it stands there, against a broker."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from pathlib import Path

from tests.harness import BrokerProcess
from tests.wire.doors import Queue

ROOT = Path(__file__).parents[2]
ENTRY = (ROOT / "web/sdk/streambroker.js").as_uri()


def blocks(page: str) -> list[str]:
    """The page's code; where it names the package, or a file beside it, this checkout's is meant."""
    found = re.findall(r"^```js\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    return [re.sub(r'from "(?:streambroker|\./streambroker\.js)"', f'from "{ENTRY}"', code) for code in found]


def running(node: str, broker: BrokerProcess, tmp_path: Path, code: str) -> subprocess.Popen[str]:
    assert "http://127.0.0.1:8000" in code
    script = tmp_path / "example.mjs"
    script.write_text(code.replace("http://127.0.0.1:8000", broker.url))
    env = {"STREAMBROKER_TOKEN": broker.token()}
    return subprocess.Popen([node, str(script)], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_the_first_example(node: str, broker: BrokerProcess, tmp_path: Path) -> None:
    with broker.client() as client:
        client.post("/queues", json={"name": "orders"})
        client.post("/queues/orders/purge", json={"status": "all"})
    code, _ = blocks("docs/javascript.md")
    out, err = running(node, broker, tmp_path, code).communicate(timeout=60)
    assert (out.split(), err) == (["true", "{", "order:", "1", "}"], "")


def test_the_readme_of_the_package(node: str, broker: BrokerProcess, tmp_path: Path) -> None:
    (code,) = blocks("web/sdk/README.md")
    out, err = running(node, broker, tmp_path, code).communicate(timeout=60)
    assert ("order" in out, err) == (True, "")


def test_the_worker_gives_up_what_it_rejects_and_stops_when_told(
    node: str, broker: BrokerProcess, tmp_path: Path
) -> None:
    _, code = blocks("docs/javascript.md")
    with broker.client() as client:
        mails = Queue(client, "mails")
        (id_,) = mails.publish_many({"to": None})
        process = running(node, broker, tmp_path, code)
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        assert process.stderr is not None
        heard = process.stderr.readline()  # the worker says what its handler threw
        while client.get(f"/messages/{id_}").json()["status"] == "processing":
            pass
        process.send_signal(signal.SIGTERM)
        process.communicate()
        watchdog.cancel()
        message = client.get(f"/messages/{id_}").json()
    assert "nobody to write to" in heard
    assert (process.returncode, message["status"]) == (0, "failed")
    assert message["error"] == "Reject: nobody to write to"
