"""A small text classifier, pure: multinomial naive Bayes (Manning, Raghavan, Schütze 2008, chapter 13)."""

from __future__ import annotations

import ast
import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

WORD = re.compile(r"[a-z][a-z_]{2,}")
SMOOTHINGS = (0.02, 0.1, 0.3, 1.0)
FOLDS = 3
Document = list[str]


class Words(msgspec.Struct, frozen=True):
    """The words of a label's documents; a fifth of them is kept for the test."""

    training: list[Document]
    test: list[Document]


class Model(msgspec.Struct, frozen=True):
    """How often each label and each word in it was seen."""

    smoothing: float
    documents: dict[str, int]
    counts: dict[str, dict[str, int]]
    vocabulary: list[str]


def documents(folder: Path) -> list[str]:
    """The docstrings of the .py files, and the paragraphs of the .txt files, below a folder; sorted, each once."""
    found: set[str] = set()
    for path in folder.rglob("*"):
        if path.suffix == ".py":
            found.update(docstrings(path.read_text(errors="replace")))
        elif path.suffix == ".txt":
            found.update(path.read_text(errors="replace").split("\n\n"))
    return sorted(text for text in found if len(WORD.findall(text.lower())) >= 3)


def docstrings(source: str) -> Iterator[str]:
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def features(texts: list[str]) -> Words:
    """A text's own digest says on which side it is, so a second attempt splits in the same way."""
    words = Words([], [])
    for text in texts:
        test = hashlib.sha256(text.encode()).digest()[0] % 5 == 0
        (words.test if test else words.training).append(WORD.findall(text.lower()))
    return words


def train(words: dict[str, list[Document]]) -> Model:
    """The smoothing is the one that does best on documents that were set aside."""
    best = max(SMOOTHINGS, key=lambda smoothing: sum(_held_out(words, smoothing, fold) for fold in range(FOLDS)))
    return _fit(words, best)


def _held_out(words: dict[str, list[Document]], smoothing: float, fold: int) -> float:
    seen = {label: [d for n, d in enumerate(all_, fold) if n % FOLDS] for label, all_ in words.items()}
    unseen = {label: [d for n, d in enumerate(all_, fold) if not n % FOLDS] for label, all_ in words.items()}
    shares = accuracy(_fit(seen, smoothing), unseen)
    return sum(shares.values()) / len(shares)


def _fit(words: dict[str, list[Document]], smoothing: float) -> Model:
    counts = {label: dict(Counter(word for document in all_ for word in document)) for label, all_ in words.items()}
    vocabulary = sorted({word for label in counts.values() for word in label})
    return Model(smoothing, {label: len(all_) for label, all_ in words.items()}, counts, vocabulary)


def classify(model: Model, document: Document) -> str:
    """The likeliest label."""
    return _likeliest(_weights(model), document)


def accuracy(model: Model, words: dict[str, list[Document]]) -> dict[str, float]:
    """The share of each label's documents that is told right; 0 where there are none."""
    weights = _weights(model)
    return {
        label: sum(_likeliest(weights, document) == label for document in all_) / max(1, len(all_))
        for label, all_ in words.items()
    }


Weights = dict[str, tuple[float, float, dict[str, float]]]


def _weights(model: Model) -> Weights:
    """For each label the logarithms of its share, of a word it never had, and of each word."""
    everything = sum(model.documents.values())
    weights: Weights = {}
    for label, counts in model.counts.items():
        total = sum(counts.values()) + model.smoothing * max(1, len(model.vocabulary))
        known = {word: math.log((count + model.smoothing) / total) for word, count in counts.items()}
        prior = math.log(max(1, model.documents[label]) / max(1, everything))
        weights[label] = (prior, math.log(model.smoothing / total), known)
    return weights


def _likeliest(weights: Weights, document: Document) -> str:
    def score(label: str) -> float:
        prior, never, known = weights[label]
        return prior + sum(known.get(word, never) for word in document)

    return max(weights, key=score)
