"""A real Prometheus scrapes a real broker; its tools find nothing wrong with metrics, rules and dashboard."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness import BrokerProcess
from tests.system.conftest import StartBroker, missing

DOCS = Path(__file__).parent.parent.parent / "docs"
PATIENCE_S = 60
MESSAGES = 50
CONFIG = """\
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: streambroker
    authorization: {{credentials: "{key}"}}
    static_configs: [{{targets: ["{target}"]}}]
"""


def tool(name: str) -> str:
    """The path of a command of Debian's package prometheus."""
    path = shutil.which(name)
    if path is None:
        missing(f"{name} is not installed (Debian package prometheus)", possible_here=True)
        raise AssertionError
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Prometheus:
    """A server of its own data directory, asked over its HTTP API."""

    def __init__(self, directory: Path, config: str) -> None:
        (directory / "prometheus.yml").write_text(config)
        port = free_port()
        self.api = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", trust_env=False, timeout=30)
        self.log = directory / "prometheus.log"
        arguments = {
            "config.file": directory / "prometheus.yml",
            "storage.tsdb.path": directory / "tsdb",
            "web.listen-address": f"127.0.0.1:{port}",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [tool("prometheus"), *(f"--{name}={value}" for name, value in arguments.items())],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def close(self) -> None:
        self.api.close()
        self.process.kill()
        self.process.wait()

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer; None while it does not answer."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            reply = self.api.get(path, params=parameters)
        except httpx.TransportError:
            return None
        if reply.status_code == 503:
            return None  # it starts
        answer = reply.json()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]

    def query(self, expression: str) -> list[float]:
        """The values of a query now."""
        data = self.get("/query", query=expression)
        return [] if data is None else [float(result["value"][1]) for result in data["result"]]

    def comes(self, expression: str, values: list[float]) -> None:
        """Until the query has these values."""
        self.eventually(lambda: self.query(expression), lambda seen: seen == values)

    def eventually(self, look: Callable[[], Any], wanted: Callable[[Any], bool] = bool) -> Any:
        """Until it is wanted; that it was never is all that time can show here."""
        deadline = time.monotonic() + PATIENCE_S
        while not wanted(seen := look()):
            assert time.monotonic() < deadline, (seen, self.log.read_text()[-3_000:])
            time.sleep(0.1)
        return seen


@pytest.fixture
def broker(start_broker: StartBroker) -> BrokerProcess:
    """With a queue that has seen publishes, acks, a nack and a dead letter."""
    broker = start_broker()
    with broker.client() as client:
        client.post("/queues", json={"name": "work", "dead_letter_queue": "dead"}).raise_for_status()
        batch = {"messages": [{"content": number} for number in range(MESSAGES)]}
        client.post("/queues/work/messages/batch", json=batch).raise_for_status()
        messages = client.post("/queues/work/messages/consume", json={"max": 10}).json()["messages"]
        for verb, message in zip(["nack", *["ack"] * 8], messages, strict=False):
            path = f"/messages/{message['message_id']}/{verb}"
            client.post(path, json={"lease": message["lease"]}).raise_for_status()
        client.get("/no/such/path")
    return broker


@pytest.fixture
def prometheus(tmp_path: Path, broker: BrokerProcess) -> Iterator[Prometheus]:
    with broker.client() as client:
        grants = [{"queues": "*", "actions": ["view"]}]
        key = client.post("/api-keys", json={"name": "prometheus", "grants": grants}).json()["key"]
    target = broker.url.removeprefix("http://")
    rules = DOCS / "prometheus" / "alerts.yml"
    running = Prometheus(tmp_path, CONFIG.format(rules=rules, key=key, target=target))
    try:
        yield running
    finally:
        running.close()


def test_a_server_scrapes_with_an_api_key_and_stores_what_the_broker_did(
    broker: BrokerProcess, prometheus: Prometheus
) -> None:
    published = f'streambroker_messages_published_total{{queue="work"}} == {MESSAGES}'
    prometheus.eventually(lambda: prometheus.query(published))
    acked = 'streambroker_messages_settled_total{queue="work",outcome="acked"}'
    prometheus.comes(acked, [8])
    prometheus.comes('streambroker_messages_dead_lettered_total{queue="work"}', [1])
    prometheus.comes('streambroker_queue_messages{queue="work",status="processing"}', [1])
    prometheus.comes('streambroker_queue_messages{queue="dead",status="pending"}', [1])
    prometheus.comes('streambroker_http_requests_total{route="unknown",status="404"}', [1])
    prometheus.comes('up{job="streambroker"}', [1])
    (target,) = prometheus.get("/targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    # A counter that it sees grow becomes a rate.
    with broker.client() as client:
        for number in range(5):
            client.post("/queues/work/messages", json={"content": number}).raise_for_status()
    prometheus.eventually(
        lambda: prometheus.query('increase(streambroker_messages_published_total{queue="work"}[1m]) > 0')
    )


def test_every_rule_is_evaluated_and_the_dead_letter_raises_an_alert(
    broker: BrokerProcess, prometheus: Prometheus
) -> None:
    def evaluated() -> list[Any]:
        groups = (prometheus.get("/rules") or {"groups": []})["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return rules if rules and all(rule["health"] != "unknown" for rule in rules) else []

    rules = prometheus.eventually(evaluated)
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []
    prometheus.eventually(lambda: prometheus.query('streambroker_messages_dead_lettered_total{queue="work"}'))
    with broker.client() as client:
        message = client.get("/queues/work/messages/consume").json()
        path = f"/messages/{message['message_id']}/nack"
        client.post(path, json={"lease": message["lease"]}).raise_for_status()
    prometheus.eventually(lambda: prometheus.query('ALERTS{alertname="StreambrokerMessagesFail",queue="work"}'))
    assert prometheus.query('ALERTS{alertname=~"StreambrokerDown|StreambrokerStorageFull|StreambrokerLogGrows"}') == []


def test_every_panel_of_the_dashboard_has_something_to_show(prometheus: Prometheus) -> None:
    dashboard = json.loads((DOCS / "grafana" / "streambroker.json").read_text())
    asked = {target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())}
    assert len(asked) > 30

    def plain(expression: str) -> str:
        text = expression.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$queue", ".*")
        assert not re.search(r"\$\w", text), expression
        return text

    # A rate takes two scrapes.
    prometheus.eventually(lambda: prometheus.query("rate(streambroker_event_loop_lag_seconds_count[1m]) > 0"))

    def silent() -> list[str]:
        return [expression for expression in asked if not prometheus.query(plain(expression))]

    prometheus.eventually(silent, lambda found: found == [])


def test_promtool_finds_nothing_wrong_with_the_metrics(broker: BrokerProcess) -> None:
    with broker.client() as client:
        text = client.get("/metrics").text
    checked = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    rules = DOCS / "prometheus" / "alerts.yml"
    checked = subprocess.run(
        [tool("promtool"), "check", "rules", "--lint-fatal", str(rules)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def series(name: str, values: str) -> dict[str, str]:
    return {"series": f'{name}{{job="streambroker",instance="one"}}', "values": values}


FREE, STARTED = "streambroker_store_free_bytes", "process_start_time_seconds"


@pytest.mark.parametrize(
    ("alert", "given", "minute", "fires"),
    [
        # 1 GiB a minute, of 200 GiB: full in 200 minutes; and the same in the first 20 minutes that are known.
        ("StreambrokerDiskFillsUp", series(FREE, f"{200 << 30}-{1 << 30}x100"), 50, True),
        ("StreambrokerDiskFillsUp", series(FREE, f"{200 << 30}-{1 << 30}x100"), 20, False),
        ("StreambrokerDiskFillsUp", series(FREE, f"{200 << 30}x100"), 50, False),
        ("StreambrokerRestarts", series(STARTED, "1 2 3 4 4x60"), 6, True),
        ("StreambrokerRestarts", series(STARTED, "1 2 2x60"), 6, False),
        ("StreambrokerClockSet", series("streambroker_clock_step_seconds", "0 -3600x60"), 10, True),
        ("StreambrokerClockSet", series("streambroker_clock_step_seconds", "0.5x60"), 10, False),
        ("StreambrokerDown", series("up", "1x10 0x10"), 15, True),
        ("StreambrokerDown", series("up", "1x10 0 1x10"), 15, False),
    ],
)
def test_an_alert_is_raised_when_it_should_be(
    tmp_path: Path, alert: str, given: dict[str, str], minute: int, fires: bool
) -> None:
    asked = {
        "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
        "eval_time": f"{minute}m",
        "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
    }
    test = {"interval": "1m", "input_series": [given], "promql_expr_test": [asked]}
    file = tmp_path / "test.yml"  # JSON is YAML
    file.write_text(json.dumps({"rule_files": [str(DOCS / "prometheus" / "alerts.yml")], "tests": [test]}))
    checked = subprocess.run(
        [tool("promtool"), "test", "rules", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
