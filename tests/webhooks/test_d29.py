"""D29 on a running broker: where webhooks do not go, at creation and at each delivery, and how little they take in."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from streambroker.certificates import make
from tests.webhooks.conftest import Names
from tests.webhooks.receiver import Receiver, receiving, status
from tests.webhooks.world import LATER, World, broker

ELSEWHERE = "10.0.0.1"


@pytest.mark.parametrize(
    "url",
    [
        *("http://10.0.0.1/", "http://169.254.169.254/latest/meta-data", "https://[::1]/", "http://100.64.0.1/"),
        *("http://0.0.0.0/", "http://[64:ff9b::a9fe:a9fe]/", "http://[::ffff:10.0.0.1]/", "http://[2002:a00:1::]/"),
        *("http://2130706433/", "http://0177.0.0.1/", "http://0x7f.1/", "file:///etc/passwd", "gopher://127.0.0.1/"),
        *("http://user:pass@127.0.0.1/", "http://127.0.0.1\t/"),
    ],
)
async def test_d29_what_is_not_public_is_refused_at_creation_and_at_a_change(
    world: World, receiver: Receiver, url: str
) -> None:
    problem = await world.refused(url)
    assert (problem["code"], problem["errors"][0]["pointer"]) == ("invalid", "/url")
    assert (await world.api.get("/queues/q")).status_code == 404  # nothing was made, not the queue either
    made = await world.make(receiver.url)
    changed = await world.api.patch(world.path(made), json={"url": url})
    assert (changed.status_code, changed.json()["errors"][0]["pointer"]) == (422, "/url")
    assert (await world.look(made))["url"] == receiver.url


async def test_d29_loopback_is_refused_where_the_operator_has_not_opened_it(tmp_path: Path, receiver: Receiver) -> None:
    async with broker(tmp_path, webhook_allow_private=()) as world:
        assert "loopback" in (await world.refused(receiver.url))["detail"]
        assert "loopback" in (await world.refused(f"http://localhost:{receiver.port}/"))["detail"]
    assert receiver.connections == 0


async def test_d29_one_bad_address_among_good_ones_spoils_a_name(world: World, names: Names) -> None:
    names.lead("hooks.test", ["127.0.0.1", ELSEWHERE])
    assert "a private address" in (await world.refused("http://hooks.test/"))["detail"]
    names.lead("hooks.test", [])
    assert "no address" in (await world.refused("http://hooks.test/"))["detail"]


async def test_d29_a_refusal_does_not_tell_the_address(world: World, names: Names) -> None:
    names.lead("intranet.test", ["10.9.8.7"])
    assert "10.9" not in str(await world.refused("http://intranet.test/"))


async def test_d29_a_name_that_leads_elsewhere_since_is_refused_at_delivery(
    world: World, receiver: Receiver, names: Names
) -> None:
    await world.config(**LATER)
    names.lead("hooks.test", ["127.0.0.1"], ["127.0.0.1"], [ELSEWHERE])
    made = await world.make(f"http://hooks.test:{receiver.port}/hook")
    await world.settled(await world.publish(1), "processed")
    assert (await receiver.one()).headers["host"] == f"hooks.test:{receiver.port}"
    # The connection of the first delivery is still there to be used again: that changes nothing.
    message = await world.failed_once(await world.publish(2))
    assert message["error"] == "webhook: blocked: the host is a private address, and webhooks may not connect to that"
    assert [one["outcome"] for one in await world.logged(made, 2)] == ["blocked", "delivered"]
    assert len(receiver.seen) == 1


async def test_d29_a_delivery_looks_the_name_up_once_and_goes_where_that_said(
    world: World, receiver: Receiver, names: Names
) -> None:
    made = await world.make(receiver.url, disabled=True)
    names.lead("hooks.test", ["127.0.0.1"])
    await world.change(made, url=f"http://hooks.test:{receiver.port}/")
    asked = names.asked
    # Were it looked up a second time to connect, it would go elsewhere: rebinding between check and use.
    names.lead("hooks.test", ["127.0.0.1"], [ELSEWHERE])
    await world.change(made, disabled=False)
    await world.settled(await world.publish(), "processed")
    assert names.asked == asked + 1


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_d29_redirects_are_not_followed(world: World, receiver: Receiver, code: int) -> None:
    await world.config(**LATER)
    async with receiving() as inside:
        made = await world.make(receiver.url)
        receiver.answers.append(status(code, f"Location: {inside.url}"))
        await world.failed_once(await world.publish())
        (one,) = await world.logged(made, 1)
        assert (one["outcome"], one["status_code"]) == ("refused", code)
        assert inside.connections == 0


async def test_d29_proxies_of_the_environment_are_not_asked(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        await world.make(receiver.url)
        await world.publish()
        assert (await receiver.one()).line == "POST /hook HTTP/1.1"
        assert proxy.connections == 0


async def test_d29_no_more_than_64_kib_of_an_answer_is_read(world: World, receiver: Receiver) -> None:
    sent, whole = 0, 64 * 1024 * 1024

    async def huge(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % whole)
        while sent < whole:
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536

    made = await world.make(receiver.url)
    receiver.answers.append(huge)
    await world.settled(await world.publish(), "processed")
    (one,) = await world.logged(made, 1)
    assert one["response"] == "x" * 1_024
    assert sent < whole  # what the sockets hold, and then the connection was closed


async def test_d29_an_answer_that_does_not_come_ends_at_the_time_out(world: World, receiver: Receiver) -> None:
    await world.config(**LATER)
    made = await world.make(receiver.url, timeout_ms=100)
    receiver.open.clear()
    message = await world.failed_once(await world.publish())
    assert message["error"] == "webhook: timeout: no answer within 100 ms"
    (one,) = await world.logged(made, 1)
    assert (one["outcome"], one["status_code"]) == ("timeout", None)


async def test_d29_a_head_that_trickles_ends_at_the_time_out(world: World, receiver: Receiver) -> None:
    async def trickle(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"x-a: b\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    await world.config(**LATER)
    made = await world.make(receiver.url, timeout_ms=200)
    receiver.answers.append(trickle)
    await world.failed_once(await world.publish())
    (one,) = await world.logged(made, 1)
    assert one["outcome"] in ("timeout", "unreachable")  # h11 has enough of such a head before the time is over


async def test_d29_a_body_that_trickles_does_not_change_what_the_head_said(world: World, receiver: Receiver) -> None:
    async def trickle(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while True:
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.01)

    await world.make(receiver.url, timeout_ms=500)
    receiver.answers.append(trickle)
    message = await world.settled(await world.publish(), "processed")
    assert message["attempt"] == 1


async def test_d29_a_compressed_answer_is_not_unpacked(world: World, receiver: Receiver) -> None:
    made = await world.make(receiver.url)
    receiver.answers.append(status(200, "Content-Encoding: gzip", body=b"\x1f\x8b not at all"))
    await world.settled(await world.publish(), "processed")
    assert (await world.logged(made, 1))[0]["response"] == "('gzip' is not unpacked)"


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b"", b"HTTP/1.1 banana\r\n\r\n"])
async def test_what_is_not_http_is_a_failure(world: World, receiver: Receiver, answer: bytes) -> None:
    async def other(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    await world.config(**LATER)
    made = await world.make(receiver.url)
    receiver.answers.append(other)
    await world.failed_once(await world.publish())
    assert (await world.logged(made, 1))[0]["outcome"] == "unreachable"


async def test_nobody_there_is_a_failure_and_another_address_of_the_name_is_tried(
    world: World, receiver: Receiver, names: Names
) -> None:
    await world.config(**LATER)
    names.lead("hooks.test", ["127.0.0.2", "127.0.0.1"])  # the receiver listens on the second alone
    await world.make(f"http://hooks.test:{receiver.port}/")
    await world.settled(await world.publish(), "processed")
    names.lead("hooks.test", ["127.0.0.2"])
    message = await world.failed_once(await world.publish())
    assert message["error"].startswith("webhook: unreachable: ")


class TestTls:
    """A receiver that speaks TLS under the name hooks.test; who trusts its certificate says SSL_CERT_FILE."""

    @pytest.fixture
    def tls(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
        import datetime

        pair = make(tmp_path, ["hooks.test"], 30, datetime.datetime.now(datetime.UTC))
        monkeypatch.setenv("SSL_CERT_FILE", str(pair.cert_file))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert_file, pair.key_file)
        return context

    async def test_d29_the_connection_goes_to_the_address_and_the_certificate_is_for_the_name(
        self, tls: ssl.SSLContext, tmp_path: Path, names: Names
    ) -> None:
        names.lead("hooks.test", ["127.0.0.1"])
        async with receiving(tls) as receiver, broker(tmp_path / "data") as world:
            made = await world.make(f"https://hooks.test:{receiver.port}/hook")
            await world.settled(await world.publish(), "processed")
            request = await receiver.one()
            assert request.headers["host"] == f"hooks.test:{receiver.port}"
            assert receiver.server_names == ["hooks.test"]
            request.verified(made["secret"])

    @pytest.mark.parametrize("trusted", [True, False])
    async def test_d29_a_certificate_of_another_name_or_of_nobody_is_refused(
        self, tls: ssl.SSLContext, tmp_path: Path, names: Names, monkeypatch: pytest.MonkeyPatch, trusted: bool
    ) -> None:
        name = "other.test" if trusted else "hooks.test"
        if not trusted:
            monkeypatch.delenv("SSL_CERT_FILE")
        names.lead(name, ["127.0.0.1"])
        async with receiving(tls) as receiver, broker(tmp_path / "data") as world:
            await world.config(**LATER)
            made = await world.make(f"https://{name}:{receiver.port}/hook")
            message = await world.failed_once(await world.publish())
            assert "CERTIFICATE_VERIFY_FAILED" in message["error"]
            assert (await world.logged(made, 1))[0]["outcome"] == "unreachable"
            assert receiver.seen == []
