"""Every fenced block of the documentation is run, or parsed, or says why not."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import graphql
import pytest
import yaml

from tests.docs.blocks import RUN, blocks
from tests.docs.pages import PAGES, ROOT

# A new reason not to run something is a decision: raise it here, in the change that brings it.
NOT_RUN = 31

PROSE = {"text"}
# What is shown as plain text and is something to type all the same.
TYPED = re.compile(
    r"(?:\$ |(?:curl|docker|kubectl|make|pip3?|python3?|streambroker|sudo|systemctl|npm|npx) )", re.MULTILINE
)
HTTP_START = re.compile(r"(?:[A-Z]+ /\S*(?: HTTP/1\.1)?|HTTP/1\.1 \d{3}(?: [\w ]+)?)\Z")
HTTP_FIELD = re.compile(r"[A-Za-z0-9-]+: \S.*\Z")


def http(text: str) -> None:
    """A request or an answer, or fields of one: first line, fields, and a body that is JSON."""
    head, _, body = text.partition("\n\n")
    wrong = [line for line in head.splitlines() if not HTTP_FIELD.match(line)]
    assert not wrong or (wrong == head.splitlines()[:1] and HTTP_START.match(wrong[0])), wrong
    if body.strip():
        json.loads(body)


def ini(text: str) -> None:
    configparser.ConfigParser(strict=False, interpolation=None).read_string(text)


PARSED: dict[str, Callable[[str], object]] = {
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": lambda text: list(yaml.safe_load_all(text)),
    "ini": ini,
    "http": http,
    "graphql": graphql.parse,
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_run_or_parsed_or_says_why_not(page: Path) -> None:
    for block in blocks(page):
        where = f"{page.relative_to(ROOT)}:{block.line}"
        assert block.language != "text" or block.not_run or not TYPED.match(block.text), f"{where}: a command as text"
        if block.not_run or block.language in RUN | PROSE | {"test"} or block.file:
            continue
        assert block.language in PARSED, f"{where}: a block of {block.language or 'no language'} is neither"
        try:
            PARSED[block.language](block.text)
        except Exception as wrong:
            raise AssertionError(f"{where} is no {block.language}: {wrong}") from wrong


def test_what_is_not_run_is_counted() -> None:
    left_out = [f"{page.relative_to(ROOT)}:{b.line}: {b.not_run}" for page in PAGES for b in blocks(page) if b.not_run]
    assert len(left_out) == NOT_RUN, "\n".join(left_out)


def test_a_saved_file_is_used_by_its_page() -> None:
    for page in PAGES:
        text = page.read_text()
        for name in {block.file for block in blocks(page)} - {""}:
            used = text.count(name) > 1 or name.startswith(("test_", "conftest"))
            assert used, f"{page.name}: nothing tells what to do with {name}"


def test_marks_belong_to_the_block_below_them(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not run: takes a moon -->\n```sh\nmoon\n```\n\n<!-- says: 1 -->\n\nwords\n\n```python\n# a.py\n1\n```\n"
        "<!-- for the test: true -->\n<!-- runs until it is stopped -->\n```console\n$ go\nwent\n```\n"
    )
    moon, saved, test, going = blocks(page)
    assert moon.not_run == "takes a moon" and not saved.says and saved.file == "a.py"
    assert test.text == "true\n" and going.background and going.commands == "go\n" and going.line == 16
