"""The pages on the Python and JavaScript SDKs name everything that is public in them."""

from __future__ import annotations

import inspect
import re

import pytest

from streambroker import client
from streambroker.client import Client, SyncClient
from streambroker.client.options import PublishOptions
from tests.docs.pages import DOCS, ROOT

PYTHON = (DOCS / "python.md").read_text()
JAVASCRIPT = (DOCS / "javascript.md").read_text()


def public(kind: object) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def named(name: str, page: str) -> bool:
    return re.search(rf"\b{name}\b", page) is not None


@pytest.mark.parametrize("kind", [Client, SyncClient], ids=lambda kind: kind.__name__)
def test_the_page_names_every_method_of_a_client(kind: type) -> None:
    assert sorted(name for name in public(kind) if not named(name, PYTHON)) == []


def test_every_option_of_publish_is_in_the_page() -> None:
    options = {*inspect.signature(Client.publish).parameters, *PublishOptions.__annotations__} - {"self", "options"}
    assert len(options) > 10
    assert sorted(option for option in options if not named(option, PYTHON)) == []


def test_every_exception_of_the_client_is_a_streambroker_error() -> None:
    raised = [k for k in vars(client).values() if isinstance(k, type) and issubclass(k, Exception)]
    assert raised
    assert [
        k.__name__ for k in raised if not issubclass(k, client.StreambrokerError | client.Reject | client.Retry)
    ] == []


def test_the_page_names_every_method_of_the_javascript_client() -> None:
    declared = (ROOT / "web/sdk/streambroker.d.ts").read_text()
    body = declared.partition("export class Client ")[2].partition("\n}")[0]
    methods = set(re.findall(r"^  (\w+)(?:<[^>]*>)?\(", body, re.MULTILINE)) - {"constructor"}
    assert len(methods) > 5
    assert sorted(name for name in methods if not named(name, JAVASCRIPT)) == []
