"""The dashboard's files: what can be read, and with which headers (D27, D28)."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from streambroker.core.errors import NotFound
from streambroker.transport import files
from streambroker.transport.dashboard import static
from streambroker.transport.dashboard.static import ASSETS, CONTENT_SECURITY_POLICY, StaticDoor
from streambroker.transport.resource import Counters

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "dashboard"
    (folder / "lib").mkdir(parents=True)
    (folder / "vendor").mkdir()
    (folder / "dir.js").mkdir()
    (folder / "index.html").write_text("<!doctype html>")
    (folder / "app.js").write_text("1")
    (folder / "lib/api.js").write_text("2")
    (folder / "vendor/chart-4.6.1.js").write_text("3")
    (folder / "vendor/chart.js").write_text("4")
    (folder / ".env.js").write_text("hidden")
    (folder / "README.md").write_text("not for browsers")
    (tmp_path / "secret.js").write_text("secret")
    (tmp_path / "dashboard-of-others").mkdir()
    (tmp_path / "dashboard-of-others/x.js").write_text("secret")
    (folder / "link.js").symlink_to(tmp_path / "secret.js")
    return folder


@pytest.fixture
def door(folder: Path) -> StaticDoor:
    return StaticDoor(folder, Counters())


async def get(door: StaticDoor, path: str | None, method: str = "GET", **headers: str) -> Answer:
    """Ask for the page, or for one of its files."""
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)

    async def receive() -> Any:
        raise AssertionError("nobody should read a body")

    given = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    scope = {
        "type": "http",
        "method": method,
        "path": "/dashboard" if path is None else f"/dashboard/assets/{path}",
        "path_params": {} if path is None else {"path": path},
        "streambroker.headers": given,
        "streambroker.request_id": b"request-1",
    }
    await door(scope, receive, send)
    start, body = sent
    told = {name.decode(): value.decode() for name, value in start["headers"]}
    assert len(told) == len(start["headers"]), "a header came twice"
    return Answer(start["status"], told, body["body"])


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        (None, "text/html; charset=utf-8"),
        ("app.js", "text/javascript; charset=utf-8"),
        ("lib/api.js", "text/javascript"),
    ],
)
async def test_d27_a_file_comes_with_the_policy_and_is_never_taken_for_anything_else(
    door: StaticDoor, path: str | None, media_type: str
) -> None:
    answer = await get(door, path)
    assert answer.status == 200 and answer.body
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"].startswith(media_type)
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize(
    "path",
    [
        *("../secret.js", "lib/../../secret.js", "..%2fsecret.js", "....//secret.js", "/etc/passwd", "//etc/passwd"),
        *("", ".", "..", "./app.js", "lib/./api.js", "lib//api.js", "app.js/", "app.js\0", "app.js\n", "..\\secret.js"),
        *(
            ".env.js",
            ".env",
            "README.md",
            "link.js",
            "dir.js",
            "lib",
            "missing.js",
            "x" * 5_000 + ".js",
            "a/" * 50 + "b.js",
        ),
        *("../dashboard-of-others/x.js", "App.js", "app.JS", "\u202eapp.js", "index.html.bak", "vendor/LICENSE"),
    ],
    ids=ascii,
)
async def test_d28_nothing_else_can_be_read(door: StaticDoor, path: str) -> None:
    answer = await get(door, path)
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert b"secret" not in answer.body and b"hidden" not in answer.body
    assert door._known == {}


async def test_only_a_vendored_file_whose_name_tells_its_version_is_kept_for_ever(door: StaticDoor) -> None:
    assert "immutable" in (await get(door, "vendor/chart-4.6.1.js")).headers["cache-control"]
    assert (await get(door, "vendor/chart.js")).headers["cache-control"] == "no-cache"


async def test_what_a_browser_has_already_is_not_sent_again(door: StaticDoor, folder: Path) -> None:
    etag = (await get(door, "app.js")).headers["etag"]
    for tags in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = await get(door, "app.js", if_none_match=tags)
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["etag"] == etag
        assert "content-length" not in answer.headers and "content-type" not in answer.headers
    (folder / "app.js").write_text("changed")
    answer = await get(door, "app.js", if_none_match=etag)
    assert (answer.status, answer.body) == (200, b"changed")


async def test_a_head_has_the_headers_alone(door: StaticDoor) -> None:
    answer = await get(door, "app.js", "HEAD")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "1")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_a_file_can_only_be_read(door: StaticDoor, method: str) -> None:
    answer = await get(door, "app.js", method)
    assert answer.status == 405 and answer.headers["allow"] == "GET, HEAD"


async def test_requests_are_counted_by_template_and_never_by_path(folder: Path) -> None:
    counters = Counters()
    door = StaticDoor(folder, counters)
    for path in (None, "app.js", "../x", "missing.js"):
        await get(door, path)
    await get(door, "app.js", "BREW")
    assert counters.by_route() == {
        "GET /dashboard": 1,
        "GET /dashboard/assets/{path}": 3,
        "* /dashboard/assets/{path}": 1,
    }
    assert counters.by_status() == {"200": 2, "404": 2, "405": 1}


def test_a_folder_that_is_not_there_serves_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        StaticDoor(tmp_path / "none", Counters()).asset("index.html")


def test_the_page_and_all_that_it_names_are_in_this_checkout() -> None:
    door = StaticDoor(static.directory(), Counters())
    page = door.asset("index.html").content.decode()
    prefix = ASSETS.partition("{")[0]
    names = [part.partition('"')[0] for part in page.split(prefix)[1:]]
    assert names
    for name in names:
        assert door.asset(name).content


def test_the_wheel_carries_the_dashboard_to_where_it_is_looked_for() -> None:
    root = Path(static.__file__).parents[3]
    hatch = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert hatch["force-include"]["web/dashboard"] == "streambroker/web/dashboard"
    assert static.directory() in (root / "web/dashboard", root / "streambroker/web/dashboard")


def test_an_installed_package_serves_what_it_carries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carried = tmp_path / "streambroker/web/dashboard"
    carried.mkdir(parents=True)
    monkeypatch.setattr(files, "__file__", str(tmp_path / "streambroker/transport/files.py"))
    assert static.directory() == carried
