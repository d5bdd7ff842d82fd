"""The pages in docs/ against the code: what can be asked for, set or answered is written down there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, get_args

import httpx
import msgspec
import pytest

from streambroker.cli import Exit
from streambroker.config import Settings
from streambroker.core import errors
from streambroker.core.errors import BrokerError, StorageFailed
from streambroker.node import Node
from streambroker.protocol import frames
from streambroker.transport.routes import WEBSOCKET_PATHS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PROTOCOL = (DOCS / "protocol.md").read_text()
OPERATIONS = (DOCS / "operations.md").read_text()
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
SOURCE = re.compile(r"`((?:\w+/)+(?:\w+\.py)?)`")
CLOSE_CODE = re.compile(r"\b4[45]\d\d\b")


async def api(data_dir: Path) -> dict[str, Any]:
    """What a running broker says of its REST side."""

    def fail(error: StorageFailed) -> None:
        raise error

    node = await Node.open(Settings(data_dir=str(data_dir), admin_password="only for this test"), fail)
    try:
        transport = httpx.ASGITransport(app=node.application())
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            described: dict[str, Any] = (await client.get("/openapi.json")).json()
            return described
    finally:
        await node.close()


async def test_protocol_names_every_path_and_every_field(tmp_path: Path) -> None:
    described = await api(tmp_path)
    operations = [f"`{method.upper()} {path}`" for path, methods in described["paths"].items() for method in methods]
    operations += [f"`GET {path}`" for path in WEBSOCKET_PATHS]
    fields = {name for schema in described["components"]["schemas"].values() for name in schema.get("properties", ())}
    asked = [p for o in described["paths"].values() for method in o.values() for p in method["parameters"]]
    fields |= {parameter["name"] for parameter in asked if parameter.get("in") == "query"}
    assert [operation for operation in operations if operation not in PROTOCOL] == []
    assert sorted(name for name in fields if not re.search(rf"[`\"]{name}[`\"]", PROTOCOL)) == []


def test_protocol_names_every_op_and_its_fields() -> None:
    said = msgspec.json.decode(b"[%b,%b]" % (frames.PONG, frames.deliver("s", [])))
    structs = [kind for kind in vars(frames).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
    tagged = [kind for kind in structs if kind.__struct_config__.tag and kind is not frames.Frame]
    assert set(get_args(frames.ClientFrame)) < set(tagged)
    ops = {str(kind.__struct_config__.tag) for kind in tagged} | {frame["op"] for frame in said}
    fields = {name for kind in tagged for name in kind.__struct_encode_fields__} | {name for f in said for name in f}
    section = PROTOCOL.partition("\n## WebSocket\n")[2].partition("\n## ")[0]
    assert sorted(name for name in ops | fields if f"`{name}`" not in section) == []


def test_protocol_names_every_close_code_that_is_sent() -> None:
    doors = [ROOT / "streambroker/app.py", *(ROOT / "streambroker/transport").rglob("*.py")]
    sent = {code for door in doors for code in CLOSE_CODE.findall(door.read_text())}
    assert sorted(code for code in sent if not re.search(rf"^\| {code} \| ", PROTOCOL, re.MULTILINE)) == []


def test_protocol_names_every_error_code_with_its_status() -> None:
    told = set(re.findall(r"^\| `(\w+)` \| (\d{3}) \| ", PROTOCOL, re.MULTILINE))
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, BrokerError)]
    assert told == {(kind.code, str(int(HTTPStatus(kind.status)))) for kind in kinds}


def test_operations_names_every_setting_with_its_default() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \| .*\|$", OPERATIONS, re.MULTILINE))
    words: dict[Any, set[str]] = {None: {"generated", "none"}, True: {"`on`"}, False: {"`off`"}, (): {"`[]`"}}
    fields = msgspec.structs.fields(Settings)
    assert list(told) == [field.name for field in fields]
    plain = {f.name for f in fields if isinstance(f.default, int | float | str) and type(f.default) is not bool}
    wrong = [
        field.name
        for field in fields
        if told[field.name] not in ({f"`{field.default}`"} if field.name in plain else words[field.default])
    ]
    assert wrong == []


def test_operations_names_every_exit_code() -> None:
    told = re.findall(r"^\| (\d+) \| ", OPERATIONS, re.MULTILINE)
    assert told == [str(int(code)) for code in sorted({0, *Exit})]


def test_security_names_tests_that_exist() -> None:
    table = (DOCS / "security.md").read_text().partition("## Checked, line by line")[2]
    known = set(re.findall(r"def (test_\w+)", "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))))
    named = set(re.findall(r"`(test_\w+…?)`", table))
    assert len(named) > 40
    missing = [
        name for name in named if not any(t == name or (name[-1] == "…" and t.startswith(name[:-1])) for t in known)
    ]
    assert missing == []
    rows = set(re.findall(r"^\| (D[0-9, D]+) \|", table, re.MULTILINE))
    assert {int(number) for row in rows for number in re.findall("[0-9]+", row)} == set(range(1, 36))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert list(dead_links(page)) == []


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_sources_that_a_page_names_are_there(page: Path) -> None:
    places = (ROOT, ROOT / "streambroker")
    named = set(SOURCE.findall(page.read_text()))
    assert sorted(name for name in named if not any((place / name).exists() for place in places)) == []


def dead_links(page: Path) -> Iterator[str]:
    """Relative links of a page that lead to no file, or to no heading in it."""
    for link in LINK.findall(FENCED.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = HEADING.findall(FENCED.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
