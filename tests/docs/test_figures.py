"""The figures that the README tells are those of the bench's last full run."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import Final

import pytest

from tests.docs.pages import ROOT

README = (ROOT / "README.md").read_text()
TABLES = (ROOT / "bench/results/heart.md").read_text()
SIDES: Final = ("ours", "nats", "redis", "redis-lean")
# The row in the README, the table in the bench's page (its first column's head), and the figure in it.
ROWS = [
    (
        "publish + consume + ack, 64 in flight, messages/s",
        "single",
        "rate (msg/s)",
        "WebSocket publish + consume + ack",
    ),
    ("the same in batches of 100, messages/s", "batch", "rate (msg/s)", "WebSocket publish + consume + ack"),
    ("publish in batches of 100, messages/s", "window1", "rate (msg/s)", "WebSocket publish, confirmed"),
    ("delivery latency at 1,000 messages/s, p50, ms", "latency", "p50 (ms)", "Delivery latency"),
    (
        "server CPU for 1,000 messages, 64 in flight, ms",
        "single",
        "server_cpu (ms/1,000)",
        "WebSocket publish + consume + ack",
    ),
]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def measured(section: str, table: str, figure: str) -> dict[str, float]:
    """The figure of every side, from the table of that name in that section."""
    text = next(part for part in TABLES.split("\n## ") if part.startswith(section))
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {table} |"))
    column = cells(lines[start]).index(figure)
    rows = [cells(line) for line in takewhile(lambda line: line.startswith("|"), lines[start + 2 :])]
    return {row[0]: float(row[column].replace(",", "")) for row in rows if row[0] in SIDES}


@pytest.mark.parametrize(("row", "table", "figure", "section"), ROWS, ids=[row[0] for row in ROWS])
def test_the_readme_tells_what_was_measured(row: str, table: str, figure: str, section: str) -> None:
    line = next(line for line in README.splitlines() if line.startswith(f"| {row} |"))
    told = [float(re.sub(r"[*,]", "", cell)) for cell in cells(line)[1:]]
    sides = measured(section, table, figure)
    assert told == [pytest.approx(sides[side], rel=0.01) for side in SIDES]
