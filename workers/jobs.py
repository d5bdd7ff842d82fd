"""The work itself, pure and small: word counts and thumbnails of made-up texts and pictures."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Job = dict[str, Any]
WORDS = ("queue", "lease", "credit", "message", "worker", "retry", "order", "stream", "ack", "token", "wait", "disk")
SHRINK = 8  # a thumbnail's pixel is the mean of a square of this side


@dataclass(frozen=True, slots=True)
class Done:
    """The job is done: acknowledge it."""

    result: dict[str, Any]

    def __str__(self) -> str:
        return "done"


@dataclass(frozen=True, slots=True)
class Later:
    """It failed now and may succeed later: nack with requeue."""

    reason: str

    def __str__(self) -> str:
        return f"later, {self.reason}"


@dataclass(frozen=True, slots=True)
class Never:
    """It can never succeed: nack without requeue, which is the way to the dead-letter queue."""

    reason: str

    def __str__(self) -> str:
        return f"never, {self.reason}"


Verdict = Done | Later | Never


def perform(job: Any, attempt: int) -> Verdict:
    """Do one job. A job may say how often its source is still away (`away_for`), as real sources sometimes are."""
    match job:
        case {"away_for": int(failures), **_rest} if attempt <= failures:
            return Later(f"the source did not answer (attempt {attempt})")
        case {"kind": "word_count", "text": str(text), **_rest}:
            return Done(word_count(text))
        case {"kind": "thumbnail", "width": int(width), "pixels": [*pixels], **_rest} if width > 0:
            return Done(thumbnail(width, pixels))
        case {"kind": "word_count", **_rest}:
            return Never("a word_count needs its text as a string")
        case _:
            return Never("no worker knows this kind of job")


def word_count(text: str) -> dict[str, Any]:
    counts = Counter(text.split())
    most = max(counts, key=lambda word: (counts[word], word), default="")
    return {"words": counts.total(), "distinct": len(counts), "most": most, "times": counts[most]}


def thumbnail(width: int, pixels: list[int]) -> dict[str, Any]:
    """A grey picture, row after row, made smaller by the mean of each square."""
    rows = [pixels[start : start + width] for start in range(0, len(pixels), width)]
    small = [
        sum(sum(row[x : x + SHRINK]) for row in rows[y : y + SHRINK]) // SHRINK**2
        for y in range(0, len(rows), SHRINK)
        for x in range(0, width, SHRINK)
    ]
    return {"width": width // SHRINK, "pixels": small}


def generate(count: int, seed: int = 1) -> Iterator[Job]:
    """The same jobs for the same seed: two word counts, then a thumbnail, and so on."""
    rng = random.Random(seed)
    for number in range(count):
        if number % 3 == 2:
            side = SHRINK * rng.randint(6, 12)
            yield {"kind": "thumbnail", "width": side, "pixels": [rng.randrange(256) for _ in range(side * side)]}
        else:
            weights = [rng.random() for _ in WORDS]
            yield {"kind": "word_count", "text": " ".join(rng.choices(WORDS, weights, k=rng.randint(1000, 3000)))}
