"""The Dockerfile as a list of instructions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent


class Instruction(NamedTuple):
    """One instruction; ``stage`` counts the FROMs before it, so that 0 stands before the first."""

    stage: int
    name: str
    text: str

    @property
    def argv(self) -> list[str]:
        """The command of an instruction in exec form, options before it left out."""
        command: list[str] = json.loads(self.text[self.text.index("[") :])
        return command


def instructions(text: str) -> list[Instruction]:
    """What a builder reads: comments dropped, continued lines joined."""
    lines = "".join(f"{line}\n" for line in text.splitlines() if not line.lstrip().startswith("#"))
    found: list[Instruction] = []
    stage = 0
    for line in re.sub(r"\\\n\s*", "", lines).splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            stage += name == "FROM"
            found.append(Instruction(stage, name, rest.strip()))
    return found


def environment(found: list[Instruction], stage: int) -> dict[str, str]:
    """What ENV sets in a stage, as it is written."""
    written = " ".join(each.text for each in found if each.name == "ENV" and each.stage == stage)
    return dict(re.findall(r"(\w+)=(\S+)", written))


DOCKERFILE = instructions((ROOT / "Dockerfile").read_text())
"""That of this repository: stage 1 builds, stage 2 is the image."""
_LOCKED = next(
    line
    for line in (ROOT / "Makefile").read_text().replace("\\\n", " ").splitlines()
    if line.endswith("-o build/lock/image.txt pyproject.toml")
)
EXTRAS = set(re.findall(r"--extra (\w+)", _LOCKED))
"""The extras that are in the image: those that `make lock` resolves for it."""
