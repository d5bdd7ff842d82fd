"""The workers' jobs: what they come to."""

from __future__ import annotations

import pytest

from workers.jobs import Done, Later, Never, generate, perform


def test_a_word_count_counts() -> None:
    result = {"words": 5, "distinct": 3, "most": "to", "times": 3}
    assert perform({"kind": "word_count", "text": "to be to do to"}, 1) == Done(result)


def test_an_empty_text_has_no_words() -> None:
    result = {"words": 0, "distinct": 0, "most": "", "times": 0}
    assert perform({"kind": "word_count", "text": ""}, 1) == Done(result)


def test_a_thumbnail_is_the_mean_of_each_square() -> None:
    black_and_white = [0] * 8 + [200] * 8
    assert perform({"kind": "thumbnail", "width": 16, "pixels": black_and_white * 8}, 1) == Done(
        {"width": 2, "pixels": [0, 200]}
    )


def test_a_source_that_is_away_is_tried_again() -> None:
    job = {"kind": "word_count", "text": "late", "away_for": 1}
    assert isinstance(perform(job, 1), Later)
    assert isinstance(perform(job, 2), Done)


@pytest.mark.parametrize("job", [None, 7, "text", [], {}, {"kind": "dance"}, {"kind": "word_count", "text": 7}])
def test_what_is_no_job_is_refused_for_good(job: object) -> None:
    assert isinstance(perform(job, 1), Never)


def test_a_seed_gives_the_same_jobs() -> None:
    assert list(generate(6, seed=3)) == list(generate(6, seed=3))
    assert [job["kind"] for job in generate(3)] == ["word_count", "word_count", "thumbnail"]
