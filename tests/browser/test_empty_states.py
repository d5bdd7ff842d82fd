"""A page with nothing on it says what one may do about it, and never what one may not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.harness import BrokerProcess
from tests.wire.conftest import NO_LIMITS
from tests.wire.people import SECRET, Person, grant

Visit = Callable[..., Dashboard]


@pytest.fixture(scope="module")
def bare(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker without a queue."""
    with BrokerProcess(tmp_path_factory.mktemp("bare") / "data", env=NO_LIMITS) as running:
        yield running


CASES: dict[str, tuple[list[dict[str, Any]], str, bool, bool]] = {
    # name: grants, what the empty list of queues says, whether a queue and whether a key may be made there
    "nobody": ([], "an admin can grant you more", False, False),
    "viewer": ([grant("a*", "view")], "an admin can grant you more", False, True),
    "sender": ([grant("a*", "publish", "view")], "Publish to a name", False, True),
    "keeper": ([grant("a*", "manage", "view")], "Create one to begin", True, True),
    "owner": ([grant("a*", "manage", "publish", "view")], "Create one, or publish", True, True),
}


@pytest.mark.parametrize("name", CASES)
def test_an_empty_page_promises_what_one_may_do(visit: Visit, bare: BrokerProcess, name: str) -> None:
    grants, said, makes_queue, makes_key = CASES[name]
    with bare.client() as client:
        Person(client, name, role="member", grants=grants)
    dashboard = visit(bare, log_in=False).log_in(name, SECRET)
    dashboard.open("queues")
    expect(dashboard("state-empty")).to_contain_text(said)
    for button in ("queue-create", "queue-create-first"):
        expect(dashboard(button)).to_have_count(int(makes_queue))
    dashboard.open("keys")
    expect(dashboard("state-empty")).to_contain_text("Make one" if makes_key else "no grants yet")
    for button in ("key-create", "key-create-first"):
        expect(dashboard(button)).to_have_count(int(makes_key))


def test_who_may_not_make_a_webhook_is_not_asked_to(visit: Visit, bare: BrokerProcess) -> None:
    with bare.client() as client:
        grants = [grant("a*", "manage", "view"), grant("b*", "consume", "manage")]
        Person(client, "minder", role="member", grants=grants[:1])
        Person(client, "maker", role="member", grants=grants)
    minder = visit(bare, log_in=False).log_in("minder", SECRET)
    minder.open("webhooks")
    expect(minder("state-empty")).to_contain_text("takes the right to consume")
    expect(minder("webhook-create-first")).to_have_count(0)
    maker = visit(bare, log_in=False).log_in("maker", SECRET)
    for route, made in (("webhooks", 1), ("webhooks?queue=b1", 1), ("webhooks?queue=a1", 0)):
        maker.open(route, "webhooks")
        expect(maker("state-empty")).to_be_visible()
        expect(maker("webhook-create-first")).to_have_count(made)
