"""Large data by reference: files named by the SHA-256 of what is in them, and notes on a run's progress."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")


class Artifacts:
    """A directory that all workers share. What is written there is whole or not there at all."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "data").mkdir(parents=True, exist_ok=True)

    def put(self, value: object) -> str:
        """Keep a value; the name that it has from then on. The same value has the same name."""
        content = msgspec.json.encode(value)
        name = hashlib.sha256(content).hexdigest()
        self._write(self.root / "data" / name, content)
        return name

    def get(self, name: str, kind: type[T]) -> T:
        """The value of that name. Raises `FileNotFoundError`, and `msgspec.ValidationError` for another kind."""
        return msgspec.json.decode((self.root / "data" / name).read_bytes(), type=kind)

    def note(self, run: str, name: str, note: dict[str, str]) -> None:
        """Write down what became of one part of a run."""
        folder = self.root / "runs" / run
        folder.mkdir(parents=True, exist_ok=True)
        self._write(folder / f"{name}.json", msgspec.json.encode(note))

    def noted(self, run: str, name: str) -> dict[str, str]:
        """What was written down; empty where nothing was yet."""
        try:
            return msgspec.json.decode((self.root / "runs" / run / f"{name}.json").read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}

    def _write(self, path: Path, content: bytes) -> None:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
