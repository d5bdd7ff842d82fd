"""The pipeline's classifier and its store of artifacts."""

from __future__ import annotations

from pathlib import Path

from workers import bayes
from workers.artifacts import Artifacts

SEA, LAND = ["ship", "wave", "harbour"], ["field", "tree", "harbour"]


def test_it_tells_apart_what_it_has_seen() -> None:
    model = bayes.train({"sea": [SEA] * 6, "land": [LAND] * 6})
    assert bayes.classify(model, ["wave", "ship", "unheard"]) == "sea"
    assert bayes.accuracy(model, {"sea": [SEA, LAND], "land": []}) == {"sea": 0.5, "land": 0}


def test_a_text_is_on_the_same_side_at_each_attempt() -> None:
    texts = [f"text number {'x' * n}" for n in range(100)]
    words = bayes.features(texts)
    assert words == bayes.features(texts)
    assert 5 < len(words.test) < 40
    assert len(words.test) + len(words.training) == 100


def test_documents_are_docstrings_and_paragraphs(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('def f():\n    """Wait for the next message."""\n')
    (tmp_path / "broken.py").write_text("def f(:")
    (tmp_path / "b.txt").write_text("one paragraph of words\n\nanother paragraph of words\n\n7")
    expected = ["Wait for the next message.", "another paragraph of words", "one paragraph of words"]
    assert bayes.documents(tmp_path) == expected


def test_an_artifact_is_found_by_what_is_in_it(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)
    name = artifacts.put(["a", "b"])
    assert artifacts.put(["a", "b"]) == name
    assert artifacts.get(name, list[str]) == ["a", "b"]
    assert artifacts.noted("run", "part") == {}
    artifacts.note("run", "part", {"features": name})
    assert Artifacts(tmp_path).noted("run", "part") == {"features": name}
