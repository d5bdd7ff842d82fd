"""The README's commands, as a reader pastes them: one after another into one shell, with a real broker behind."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streambroker.config import Settings
from tests.harness import PASSWORD, BrokerProcess

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
LINK = re.compile(r"\]\((?!https?://)([^)#]+)")
TESTED = re.compile(r"^<!-- tested -->\n```bash\n(.*?)^```$", re.DOTALL | re.MULTILINE)
URL = "http://127.0.0.1:8000"
PLACEHOLDER = "the password that the first start printed"
CLIENT = ".venv/bin/python"
MARK = "=== next block ==="
# Stops at the first command that fails, a refusal by the broker among them.
STRICT = 'set -euo pipefail\ncurl() { command curl --fail-with-body --max-time 30 "$@"; }\n'


SETTING = re.compile(r"^\| `(\w+)` \| (.+?) \|", re.MULTILINE)
NO_FIELD = {"config"}


def test_the_settings_in_the_readme_have_their_defaults() -> None:
    told = {name: default.strip("`") for name, default in SETTING.findall(README.read_text())}
    fields = {field.name: field.default for field in msgspec.structs.fields(Settings)}
    words: dict[Any, tuple[str, ...]] = {None: ("generated", "–"), (): ("–",), True: ("on",), False: ("off",)}
    assert len(told) > 5 and told.keys() - NO_FIELD <= fields.keys()
    for name in told.keys() - NO_FIELD:
        default = fields[name]
        plain = isinstance(default, int | str) and not isinstance(default, bool)
        assert told[name] in ((str(default),) if plain else words[default]), name


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "web/README.md"])
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    assert [link for link in LINK.findall(path.read_text()) if not (path.parent / link).exists()] == []


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path / "data") as running:
        yield running


def script(blocks: list[str], broker: BrokerProcess) -> str:
    """The blocks as they stand, but for the address, the password and the interpreter, which differ here."""
    text = f"\necho; echo '{MARK}'\n".join(blocks)
    for written, here in ((URL, broker.url), (PLACEHOLDER, PASSWORD), (CLIENT, sys.executable)):
        assert text.count(written) == 1, f"the README should say {written!r} once in its tested blocks"
        text = text.replace(written, here)
    return STRICT + text


def answers(output: str) -> list[Any]:
    """What the broker said in one block: each line that is JSON."""
    return [json.loads(line) for line in output.splitlines() if line.startswith(("{", "["))]


@pytest.mark.system
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_tour_in_the_readme_works_when_pasted(broker: BrokerProcess) -> None:
    blocks = TESTED.findall(README.read_text())
    run = subprocess.run(
        ["bash", "-c", script(blocks, broker)], capture_output=True, text=True, timeout=90, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    login, create, publish, consume, refuse, browse, socket, people = run.stdout.split(MARK)

    assert answers(login) == []
    assert [queue["name"] for queue in answers(create)] == ["orders.dead", "orders"]

    first, again = answers(publish)
    assert (first["duplicate"], again["duplicate"]) == (False, True)
    assert first["message_id"] == again["message_id"]

    message, acked = answers(consume)
    assert message["content"] == {"order": 1, "total": "12.50"}
    assert acked["status"] == "processed"

    _published, _nacked, dead, redriven = answers(refuse)
    assert [letter["dead_letter"]["error"] for letter in dead["items"]] == ["the total is not a number"]
    assert redriven == {"redriven": 1}

    queue, page = answers(browse)
    assert queue["counts"]["pending"] == 1
    assert [item["content"]["order"] for item in page["items"]] == [2]

    assert '"op":"welcome"' in socket.replace(" ", "")
    assert "sent by WebSocket" in socket
    assert '"username":"mia"' in people and '"duplicate":false' in people
    assert "sbk_" not in people
