"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.system

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A pytest that has this plugin and no other, whatever is installed here."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return pytester


def outcome(run: pytest.Pytester, source: str, *plugins: str) -> pytest.RunResult:
    run.makepyfile(source)
    named = [part for plugin in ("streambroker.pytest_plugin", *plugins) for part in ("-p", plugin)]
    return run.runpytest_subprocess(*named, "-q", timeout=100)


def test_a_plain_test_gets_a_broker_that_blocks(run: pytest.Pytester) -> None:
    outcome(
        run,
        """
        from streambroker import SyncBroker

        def test_delay(broker: SyncBroker):
            broker.publish("q", "late", delay_ms=60_000)
            assert broker.receive("q") is None
            broker.advance(60)
            message = broker.receive("q")
            assert message.content == "late"
            message.ack()
        """,
    ).assert_outcomes(passed=1)


def test_each_test_gets_a_fresh_one(run: pytest.Pytester) -> None:
    outcome(
        run,
        """
        import pytest

        @pytest.mark.parametrize("n", range(2))
        def test_empty(broker, n):
            assert list(broker.queues.list()) == []
            broker.publish("q", n)
        """,
    ).assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("plugin", "mark"),
    [("pytest_asyncio.plugin", "pytest.mark.asyncio"), ("anyio.pytest_plugin", "pytest.mark.anyio")],
    ids=["pytest-asyncio", "anyio"],
)
def test_a_coroutine_gets_a_broker_to_await(run: pytest.Pytester, plugin: str, mark: str) -> None:
    outcome(
        run,
        f"""
        import asyncio
        import pytest
        from streambroker import Broker

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @{mark}
        async def test_retry(broker: Broker):
            await broker.publish("q", 1)
            messages = broker.consume("q")
            await (await anext(messages)).nack(reason="again")
            waiting = asyncio.ensure_future(anext(messages))
            await broker.advance(1)
            again = await waiting
            assert again.attempt == 2
            await again.ack()
            assert (await broker.queues.get("q")).counts.processed == 1
            await messages.aclose()
        """,
        plugin,
    ).assert_outcomes(passed=1)


def test_both_sides_are_one_broker(run: pytest.Pytester) -> None:
    outcome(
        run,
        """
        import asyncio

        def test_it(broker, sync_broker, async_broker):
            asyncio.run(async_broker.publish("q", 1))
            assert sync_broker.receive("q").content == 1
            assert broker.queues.get("q").counts.processing == 1
        """,
    ).assert_outcomes(passed=1)


def test_a_message_is_known_to_be_lost_on_the_loop_of_the_test(run: pytest.Pytester) -> None:
    outcome(
        run,
        """
        import asyncio

        def test_it(async_broker):
            async def main():
                await async_broker.publish("q", 1)
                messages = async_broker.consume("q")
                message = await anext(messages)
                await async_broker.messages.delete(message.message_id)
                async with asyncio.timeout(30):
                    await message.lost.wait()
                await messages.aclose()

            asyncio.run(main())
        """,
    ).assert_outcomes(passed=1)


def test_settings_can_be_given(run: pytest.Pytester) -> None:
    outcome(
        run,
        """
        import pytest
        from streambroker.client.errors import NotFound

        @pytest.fixture
        def broker_settings():
            return {"auto_create_queues": False}

        def test_it(broker):
            with pytest.raises(NotFound):
                broker.publish("q", 1)
        """,
    ).assert_outcomes(passed=1)


def test_the_plugin_is_quick_to_load_and_pulls_in_no_server(run: pytest.Pytester) -> None:
    outcome(
        run,
        """
        import sys

        def test_it():
            assert "starlette" not in sys.modules and "streambroker.embedded" not in sys.modules
        """,
    ).assert_outcomes(passed=1)


def test_a_test_that_fails_leaves_nothing_behind(run: pytest.Pytester) -> None:
    outcome(
        run,
        """
        import threading
        from pathlib import Path

        seen = []

        def test_fails(broker):
            seen.append(Path(broker._of._heart.settings.data_dir))
            broker.publish("q", 1)
            messages = broker.consume("q")
            next(messages)
            raise AssertionError("on purpose")

        def test_after():
            assert not seen[0].parent.exists()
            assert [t.name for t in threading.enumerate() if t.name == "streambroker"] == []
        """,
    ).assert_outcomes(passed=1, failed=1)


def test_without_the_extra_the_fixture_says_what_to_install_and_others_are_unharmed(run: pytest.Pytester) -> None:
    result = outcome(
        run,
        """
        import sys

        sys.modules["httpx"] = None  # as where it is not installed

        def test_of_ours(broker):
            pass

        def test_of_theirs():
            pass
        """,
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*fixtures need the extra pytest: pip install 'streambroker[[]pytest]'"])
    result.stdout.no_fnmatch_line("*No module named*")


def test_pytest_finds_the_plugin_by_itself_once_installed() -> None:
    entries = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    assert entries == {"streambroker": "streambroker.pytest_plugin"}
