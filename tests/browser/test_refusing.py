"""Whatever page is open says so when the broker refuses publishes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.harness import BrokerProcess
from tests.wire.conftest import NO_LIMITS

Visit = Callable[..., Dashboard]


@pytest.mark.parametrize(
    ("locale", "what"), [("en-US", "publishes are refused"), ("pt-BR", "novas mensagens são recusadas")]
)
def test_a_quota_that_is_used_up_is_told_above_every_page_until_there_is_room(
    visit: Visit, tmp_path: Path, locale: str, what: str
) -> None:
    env = {**NO_LIMITS, "STREAMBROKER_MAX_STORED_BYTES": "8388608"}
    with BrokerProcess(tmp_path / "data", env=env) as broker, broker.client() as client:
        dashboard = visit(broker, locale=locale)
        told = dashboard("state-refusing")
        expect(dashboard("connection-state")).to_have_attribute("data-state", "open")
        expect(told).to_be_hidden()
        while (answer := client.post("/queues/full/messages", json={"content": "x" * 500_000})).status_code == 201:
            pass
        assert answer.json()["code"] == "storage_full"
        expect(told).to_contain_text(what)
        dashboard.open("queues")
        expect(told).to_contain_text("max_stored_bytes")
        picture = Path(__file__).parents[2] / "build" / "screenshots" / f"refusing-{locale}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        dashboard.page.screenshot(path=picture, animations="disabled")
        client.post("/queues/full/purge", json={"status": "all"}).raise_for_status()
        expect(told).to_be_hidden()
