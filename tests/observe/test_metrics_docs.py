"""docs/metrics.md, the alert rules and the Grafana dashboard know the metrics that there are, and no others."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from streambroker.broker.rates import Meter, Traffic, Waits
from streambroker.core.histogram import Histogram
from streambroker.observe.exposition import text
from streambroker.observe.node_metrics import NodeCollector, NodeSources
from streambroker.observe.queue_metrics import QueueCollector, QueueSources
from streambroker.store.figures import StoreFigures, Turns, sync_times
from streambroker.transport.counting import Refused, Requests

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGES = ("metrics.md", "prometheus/alerts.yml", "grafana/streambroker.json")
NAME = re.compile(r"\bstreambroker_[a-z_]+\b")
MATCHER = re.compile(r"(streambroker_[a-z_]+)(?:\{([^}]*)\})?")
LABEL = re.compile(r'(\w+)(=~|!~|!=|=)\\?"([^"\\]*)')
# What Prometheus itself adds to each sample, and what a histogram is made of.
GIVEN = {"instance", "job", "le"}
PARTS = re.compile(r"_(?:bucket|count|sum)$")


def exposed() -> str:
    """What a broker with one queue and one answered request tells."""
    waits, turns, requests, refused = Waits(), Turns(), Requests(), Refused()
    requests.of("GET", "/queues").note(200, 0.1)
    figures = StoreFigures(turns.messages, turns.seconds, sync_times(), 0, 0, 0, 0, 0, False, False)
    node = NodeCollector(
        NodeSources(
            waits.confirm,
            waits.delivery,
            Histogram(1),
            lambda: figures,
            requests,
            lambda: {"http": 1, "websocket": 1, "long_poll": 1},
            lambda: refused.auth_failures(requests),
            refused.rate_limited,
            lambda: False,
        )
    )
    traffic = {"q": Traffic(Meter(0), 0)}
    queues = QueueSources(lambda: traffic, lambda: {"q": [0] * 5}, lambda names: {}, lambda: 0)
    return (text(node.collect()) + text(QueueCollector(queues).collect())).decode()


EXPOSED = exposed()
FAMILIES = set(re.findall(r"^# TYPE (\w+)", EXPOSED, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_only_metrics_that_there_are(page: str) -> None:
    named = set(NAME.findall((DOCS / page).read_text()))
    assert named
    assert sorted(name for name in named if name not in FAMILIES and PARTS.sub("", name) not in FAMILIES) == []


def test_every_metric_is_described() -> None:
    page = (DOCS / "metrics.md").read_text()
    assert sorted(name for name in FAMILIES if f"`{name}`" not in page) == []


@pytest.mark.parametrize("page", PAGES[1:])
def test_a_page_asks_only_for_labels_and_values_that_there_are(page: str) -> None:
    asked = MATCHER.findall((DOCS / page).read_text())
    wrong = []
    for name, matchers in asked:
        line = next((line for line in EXPOSED.splitlines() if line.startswith(name)), "")
        for label, _, value in LABEL.findall(matchers):
            if label not in GIVEN and f'{label}="' not in line:
                wrong.append(f"{name} has no label {label}")
            elif label in ("status", "outcome", "kind") and not name.startswith("streambroker_http"):
                options = value.split("|")
                wrong += [f"{name} has no {label} {v}" for v in options if f'{label}="{v}"' not in EXPOSED]
    assert wrong == []


def test_the_dashboard_asks_for_every_kind_of_figure() -> None:
    dashboard = json.loads((DOCS / "grafana/streambroker.json").read_text())
    asked = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ()))
    shown = {name for name in FAMILIES if name in asked}
    assert sorted(FAMILIES - shown) == [
        "streambroker_build_info",  # what the list of brokers is made from
        "streambroker_clock_seconds",  # for `streambroker doctor`
        "streambroker_clock_step_seconds",
        "streambroker_draining",
        "streambroker_messages_in_flight",  # the same as by queue
    ]
