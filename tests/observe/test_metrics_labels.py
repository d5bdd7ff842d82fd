"""Labels of queues are bounded, stay, and never make a counter fall."""

from __future__ import annotations

from streambroker.broker.rates import Meter
from streambroker.observe.labels import MAX_LABELS, MAX_LETTERS, OTHER, Labels


def meter(published: int = 0, delivered: int = 0) -> Meter:
    made = Meter(0)
    made.published, made.delivered = published, delivered
    return made


def published(labels: Labels) -> dict[str, int]:
    return {name: counts.published for name, counts in labels.counts().items()}


def test_while_they_fit_all_queues_have_a_label_and_there_are_no_others() -> None:
    labels = Labels(most=2)
    labels.update({"busy": meter(5), "idle": meter()})
    assert published(labels) == {"busy": 5, "idle": 0}


def test_labels_go_to_the_busiest() -> None:
    labels = Labels(most=2)
    labels.update({"little": meter(1), "much": meter(9), "delivers": meter(0, 5), "idle": meter()})
    assert sorted(labels.names) == ["delivers", "much"]
    assert published(labels) == {"delivers": 0, "much": 9, OTHER: 1}


def test_a_queue_without_traffic_takes_no_label_from_one_that_will_have_some() -> None:
    labels = Labels(most=1)
    queues = {"a": meter(), "b": meter()}
    labels.update(queues)
    assert labels.names == []
    queues["b"].published = 1
    labels.update(queues)
    assert labels.names == ["b"]


def test_a_label_stays_however_busy_others_become() -> None:
    labels = Labels(most=1)
    queues = {"first": meter(1), "late": meter()}
    labels.update(queues)
    queues["late"].published = 1_000
    labels.update(queues)
    assert published(labels) == {"first": 1, OTHER: 1_000}


def test_a_deleted_queue_leaves_its_label_to_the_next() -> None:
    labels = Labels(most=1)
    queues = {"first": meter(9), "next": meter(5)}
    labels.update(queues)
    del queues["first"]
    queues["next"].published += 1
    labels.update(queues)
    # What it had counted before stays with the others: nothing is counted twice, and no counter falls.
    assert published(labels) == {"next": 0, OTHER: 6}
    queues["next"].published += 2
    assert published(labels) == {"next": 2, OTHER: 6}


def test_the_others_do_not_fall_when_one_of_them_is_deleted() -> None:
    labels = Labels(most=1)
    queues = {"first": meter(100), "a": meter(30), "b": meter(20)}
    labels.update(queues)
    gone = queues.pop("a")
    gone.published += 1  # published after the last look
    labels.update(queues)
    assert published(labels) == {"first": 100, OTHER: 51}


def test_a_queue_deleted_and_made_anew_starts_from_nothing() -> None:
    labels = Labels(most=2)
    labels.update({"q": meter(7)})
    labels.update({"q": meter(1)})
    assert published(labels) == {"q": 1}


def test_the_same_among_the_others_adds_up() -> None:
    labels = Labels(most=1)
    first = meter(9)
    labels.update({"first": first, "q": meter(7)})
    labels.update({"first": first, "q": meter(1)})
    assert published(labels) == {"first": 9, OTHER: 8}


def test_long_names_leave_room_for_fewer_labels() -> None:
    labels = Labels()
    labels.update({f"{number:0128}": meter(1) for number in range(MAX_LABELS)})
    assert len(labels.names) == MAX_LETTERS // 128 < MAX_LABELS
