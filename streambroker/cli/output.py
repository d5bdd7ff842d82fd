"""What commands write: tables for people, tab-separated lines for pipes, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

_BETWEEN = 3  # characters between two columns of a table on a terminal
_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000))


@dataclass(frozen=True, slots=True)
class Output:
    """Where a command's answer goes. `json`: documents, and nothing else, on stdout."""

    json: bool

    @property
    def for_people(self) -> bool:
        """Whether somebody looks at stdout."""
        return not self.json and sys.stdout.isatty()

    def document(self, value: Any) -> None:
        """One JSON document on a line of its own. Times are RFC 3339."""
        self.line(msgspec.json.encode(_on_the_wire(value)).decode())

    def line(self, text: str) -> None:
        """A line, at once: whoever reads a pipe must not wait for the next ones."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def raw(self, body: bytes) -> None:
        """Bytes as they are."""
        sys.stdout.flush()
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()

    def say(self, text: str) -> None:
        """A line for people, beside the answer: on stderr, and not where JSON was asked for."""
        if not self.json:
            sys.stderr.write(plain(text) + "\n")
            sys.stderr.flush()

    def answer(self, value: Any, sentence: str) -> None:
        """The document, or a sentence about it."""
        if self.json:
            self.document(value)
        else:
            self.line(plain(sentence))

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        right: Sequence[str] = (),
        spare: Sequence[str] = (),
    ) -> None:
        """Rows below their columns, those of `right` aligned to the right; tab-separated where nobody looks.

        On a terminal that is too narrow for all, the columns of `spare` are left out, the first one first.
        """
        if not self.for_people:
            for row in [columns, *rows]:
                self.line("\t".join(plain(cell) for cell in row))
            return
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        console = Console()
        shown = _fitting(columns, rows, spare, console.width)
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for column in (columns[n] for n in shown):
            number = column in right
            table.add_column(Text(column), justify="right" if number else "left", overflow="fold", no_wrap=number)
        for row in rows:
            table.add_row(*(Text(plain(row[n])) for n in shown))
        console.print(table)

    def fields(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Names and values, one a line."""
        width = max(len(name) for name, _ in pairs)
        for name, value in pairs:
            first, *more = plain(value, keep="\n").split("\n")
            self.line("\n".join([f"{name:<{width}}  {first}", *(" " * (width + 2) + line for line in more)]))


def _fitting(columns: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str], width: int) -> list[int]:
    """Which columns to show in so many characters: all but as many of `spare` as it takes."""
    widths = [max(len(line[n]) for line in [columns, *rows]) for n in range(len(columns))]
    shown = list(range(len(columns)))
    for name in spare:
        if sum(widths[n] + _BETWEEN for n in shown) - _BETWEEN <= width:
            break
        shown.remove(columns.index(name))
    return shown


def _on_the_wire(value: Any) -> Any:
    """A value with its members named, and its times written, as the broker does."""
    if isinstance(value, msgspec.Struct):
        names = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
        return {encoded: _on_the_wire(getattr(value, name)) for name, encoded in names}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, dict):
        return {name: _on_the_wire(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_on_the_wire(member) for member in value]
    return value


def plain(text: str, keep: str = "") -> str:
    """Text that can do nothing to a terminal: control characters, ESC before all, are written as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def span(ms: float | None) -> str:
    """A duration for people: ``850 ms``, ``1.5 s``, ``12 m``, ``3.2 h``; ``-`` for none."""
    if ms is None:
        return "-"
    for unit, size in _UNITS:
        if ms >= size:
            return f"{ms / size:.3g} {unit}"
    return f"{ms:.0f} ms"


def moment(at: datetime | None) -> str:
    """A time in UTC to the millisecond; ``-`` for none."""
    return "-" if at is None else at.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")


def excerpt(body: bytes, size: int) -> str:
    """The beginning of a content in one line."""
    text = body[: size * 4].decode(errors="replace")
    return text if len(text) <= size and len(body) <= size * 4 else text[: size - 1] + "…"
