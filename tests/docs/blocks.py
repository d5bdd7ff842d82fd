"""The fenced blocks of a page, and what the comments around them say of how they are run.

A page is read from top to bottom, as a newcomer pastes it. The comments, which a reader does not see:

``<!-- not run: reason -->``
    before a block: it is only read. The reason says what it would take.
``<!-- runs until it is stopped -->``
    before a block: its last command goes on in the background while the page goes on, until SIGTERM at its end.
``<!-- each for a moment -->``
    before a shell block: its commands are run one by one, and those that go on are interrupted after two seconds.
``<!-- says: text -->``
    before a block: what it prints holds this text.
``<!-- for the test: commands -->``
    anywhere: shell commands that are run at this place.

A block whose first line is a comment that names a file is saved under that name and not run by itself: a command of
the page does that, or pytest where it is named ``test_….py``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

SHELL = {"bash", "sh", "console"}
PYTHON = {"python"}
JAVASCRIPT = {"js", "javascript", "mjs"}
RUN = SHELL | PYTHON | JAVASCRIPT

_TOKEN = re.compile(
    r"^<!--\s*(?P<comment>.*?)\s*-->$|^(?P<indent> *)```(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)
_FILE = re.compile(r"\A(?:#|//|<!--) ([\w-]+\.(?:py|mjs|js|html|toml|sh|yaml|csv))(?: -->)?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """``text`` as it stands between the fences, ``line`` where it begins in the page (from 1)."""

    language: str
    text: str
    line: int
    not_run: str = ""
    background: bool = False
    moments: bool = False
    says: str = ""

    @property
    def file(self) -> str:
        """The name under which a reader saves it; empty where it is pasted."""
        named = _FILE.match(self.text)
        return named.group(1) if named else ""

    @property
    def commands(self) -> str:
        """What is typed: of a block that shows a prompt only the lines behind it."""
        if self.language != "console":
            return self.text
        return "".join(f"{line[2:]}\n" for line in self.text.splitlines() if line.startswith(("$ ", "> ")))


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page in order, and as blocks of the language ``test`` what is there for the test alone."""
    text = page.read_text()
    found: list[Block] = []
    marks: dict[str, str] = {}
    end = 0
    for token in _TOKEN.finditer(text):
        if text[end : token.start()].strip():
            marks = {}
        end = token.end()
        line = text.count("\n", 0, token.start()) + 1
        if token["comment"] is None:
            found.append(_block(token, line, marks))
            marks = {}
        elif token["comment"].startswith("for the test:"):
            found.append(Block("test", token["comment"].removeprefix("for the test:").strip() + "\n", line))
        else:
            name, _, told = token["comment"].partition(":")
            marks[name] = told.strip()
    return found


def _block(token: re.Match[str], line: int, marks: dict[str, str]) -> Block:
    indent = len(token["indent"])
    text = "".join(f"{row[indent:]}\n" for row in token["text"].splitlines())
    return Block(
        token["language"],
        text,
        line,
        not_run=marks.get("not run", ""),
        background="runs until it is stopped" in marks,
        moments="each for a moment" in marks,
        says=marks.get("says", ""),
    )
