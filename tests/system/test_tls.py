"""TLS with real brokers: what is refused, what is spoken, and a new certificate without a restart."""

from __future__ import annotations

import asyncio
import datetime
import re
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.asyncio.client import connect

from streambroker.certificates import Pair, make
from tests.harness import BrokerProcess
from tests.system.wire import Rest, Socket, eventually, ids, rest

CONFIGURATION = 78
HSTS = "strict-transport-security"
HANDSHAKE_LIMIT_S = 10


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return made(tmp_path / "pair")


def made(directory: Path) -> Pair:
    return make(directory, ["broker.test"], 30, datetime.datetime.now(datetime.UTC), replace=True)


def over_tls(data_dir: Path, pair: Pair, *args: str) -> BrokerProcess:
    """A broker, not started yet, and a client's trust in it."""
    trusted = data_dir.with_name("trusted.pem")
    trusted.write_bytes(pair.cert_file.read_bytes())  # what a reload changes is not what the client began with
    files = ("--tls-cert", str(pair.cert_file), "--tls-key", str(pair.key_file))
    return BrokerProcess(data_dir, *files, *args, cafile=trusted)


@pytest.fixture
def broker(tmp_path: Path, pair: Pair) -> Iterator[BrokerProcess]:
    with over_tls(tmp_path / "data", pair) as running:
        yield running


def address(broker: BrokerProcess) -> tuple[str, int]:
    parts = urlsplit(broker.url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


async def wss(broker: BrokerProcess) -> Socket:
    """A WebSocket that has been welcomed."""
    connection = await connect(
        f"{broker.ws_url}/ws",
        ssl=broker.trust,
        additional_headers={"Authorization": f"Bearer {broker.token()}"},
        compression=None,
        max_queue=None,
        max_size=None,
        ping_interval=None,
        proxy=None,
    )
    opened = Socket(connection)
    await opened.notice("welcome")
    return opened


def shown(broker: BrokerProcess) -> str:
    """The certificate that a new connection is shown, as PEM."""
    return ssl.get_server_certificate(address(broker), timeout=10)


def refusal(broker: BrokerProcess) -> tuple[int, str]:
    """The exit status and the last words of a broker that does not start."""
    with pytest.raises(RuntimeError):
        broker.start()
    assert broker.process is not None
    assert broker.process.returncode != -signal.SIGKILL, "it neither started nor ended"
    assert not any("Traceback" in line for line in broker.output)
    return broker.process.returncode, broker.output[-1]


# --- what is spoken ----------------------------------------------------------------------------------------------


async def test_a_message_goes_through_https_and_wss(broker: BrokerProcess) -> None:
    assert broker.ws_url.startswith("wss://")
    async with rest(broker) as client:
        consumer = await wss(broker)
        await consumer.call("subscribe", queue="q")
        published = await client.publish("q", {"n": 1}, "x" * 300_000)
        messages = await consumer.receive(2)
        assert ids(messages) == published
        assert messages[0]["content"] == {"n": 1}
        await consumer.call("ack", ids=published)
        assert (await client.counts("q"))["processed"] == 2
        await consumer.close()


def test_a_client_that_does_not_trust_the_certificate_does_not_connect(broker: BrokerProcess) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{broker.url}/healthz", trust_env=False)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_1_is_refused(broker: BrokerProcess) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with socket.create_connection(address(broker), 10) as raw, pytest.raises((ssl.SSLError, ConnectionError)):
        old.wrap_socket(raw)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(address(broker), 10) as raw, old.wrap_socket(raw) as spoken:
        assert spoken.version() == "TLSv1.2"


def test_plain_http_to_the_tls_port_is_cut_off_without_an_answer(broker: BrokerProcess) -> None:
    with socket.create_connection(address(broker), 2) as raw:  # well before the time that a handshake may take
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            assert b"HTTP" not in raw.recv(1_000)
        except ConnectionResetError:
            pass
    with broker.client() as client:
        assert client.get("/healthz").status_code == 200


def test_a_silent_handshake_is_cut_off(broker: BrokerProcess) -> None:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # the beginning of one
    began = time.monotonic()
    silent, halting = (socket.create_connection(address(broker), 3 * HANDSHAKE_LIMIT_S) for _ in range(2))
    with silent, halting:
        halting.sendall(hello)
        for connection in (silent, halting):
            try:
                assert connection.recv(1_000) == b""
            except ConnectionResetError:
                pass
    assert time.monotonic() - began < 2 * HANDSHAKE_LIMIT_S  # twice: the machine may be busy; the default is a minute
    assert not any("Traceback" in line for line in broker.output)


def test_browsers_are_told_to_stay_with_tls(broker: BrokerProcess) -> None:
    with broker.client() as client:
        for path in ("/healthz", "/queues", "/nothing/here"):
            assert client.get(path).headers[HSTS] == "max-age=31536000"


def test_without_tls_browsers_are_told_nothing(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data") as plain, plain.client() as client:
        assert plain.url.startswith("http://")
        assert HSTS not in client.get("/healthz").headers


async def printed(broker: BrokerProcess) -> str:
    """The line with a command to try, which comes right after the one that `start` waits for."""

    async def there() -> bool:
        return any(line.startswith("try: ") for line in broker.output)

    await eventually(there)
    return next(line for line in broker.output if line.startswith("try: "))


async def test_the_printed_line_can_be_pasted(broker: BrokerProcess, pair: Pair) -> None:
    assert f"curl -s --cacert {pair.cert_file} {broker.url}/login" in await printed(broker)


async def test_the_printed_line_says_so_where_the_certificate_is_for_another_name(tmp_path: Path, pair: Pair) -> None:
    with over_tls(tmp_path / "data", pair, "--host", "127.0.0.2") as broker:
        assert f"curl -sk {broker.url}/login" in await printed(broker)


def test_an_idle_client_does_not_hold_up_a_stop(broker: BrokerProcess) -> None:
    with broker.client() as client:
        client.get("/healthz").raise_for_status()  # its connection stays open, and does not say goodbye
        assert broker.terminate() == 0
    assert not any("error" in line for line in broker.output)


# --- another certificate -----------------------------------------------------------------------------------------


async def hangs_up(broker: BrokerProcess, words: str) -> None:
    """Send SIGHUP, and wait until the broker has said this of it."""
    assert broker.process is not None
    broker.process.send_signal(signal.SIGHUP)

    async def said() -> bool:
        return any("SIGHUP" in line and words in line for line in broker.output)

    await eventually(said)


async def test_sighup_changes_the_certificate_under_an_open_websocket(broker: BrokerProcess, pair: Pair) -> None:
    consumer = await wss(broker)
    await consumer.call("subscribe", queue="q")
    before = shown(broker)
    assert before == pair.cert_file.read_text()
    after = made(pair.cert_file.parent).cert_file.read_text()
    assert shown(broker) == before != after
    await hangs_up(broker, "new connections get the certificate")
    assert shown(broker) == after
    broker.cafile = pair.cert_file
    async with rest(broker) as client:
        published = await client.publish("q", 1)
        assert ids(await consumer.receive()) == published
    assert (await consumer.call("ack", ids=published))["results"] == [{"message_id": published[0], "ok": True}]
    await consumer.close()


async def test_a_broken_new_certificate_leaves_the_old_one_and_is_an_error_in_the_log(
    broker: BrokerProcess, pair: Pair
) -> None:
    before = shown(broker)
    pair.key_file.write_text("nonsense")
    await hangs_up(broker, "cannot be used")
    assert any('"level": "error"' in line and "SIGHUP" in line and "tls_key" in line for line in broker.output)
    assert shown(broker) == before
    after = made(pair.cert_file.parent).cert_file.read_text()
    await hangs_up(broker, "new connections get the certificate")
    assert shown(broker) == after


async def test_sighup_without_tls_changes_nothing(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data") as broker, broker.client() as client:
        await hangs_up(broker, "TLS is off")
        assert client.get("/readyz").status_code == 200


# --- starts that are refused -------------------------------------------------------------------------------------


def test_a_missing_file_is_refused(tmp_path: Path, pair: Pair) -> None:
    pair.key_file.unlink()
    status, said = refusal(over_tls(tmp_path / "data", pair))
    assert status == CONFIGURATION
    assert re.search(r"tls_key .*key_nopass.pem cannot be read", said)
    assert not (tmp_path / "data").exists()


def test_a_key_of_another_certificate_is_refused(tmp_path: Path, pair: Pair) -> None:
    pair.key_file.write_bytes(made(tmp_path / "other").key_file.read_bytes())
    status, said = refusal(over_tls(tmp_path / "data", pair))
    assert status == CONFIGURATION
    assert "is not the key of the certificate" in said


def test_a_key_that_others_may_change_is_refused(tmp_path: Path, pair: Pair) -> None:
    pair.key_file.chmod(0o660)
    status, said = refusal(over_tls(tmp_path / "data", pair))
    assert status == CONFIGURATION
    assert "chmod 600" in said


def test_a_certificate_without_a_key_is_refused(tmp_path: Path, pair: Pair) -> None:
    status, said = refusal(BrokerProcess(tmp_path / "data", "--tls-cert", str(pair.cert_file)))
    assert status == CONFIGURATION
    assert "tls_key" in said


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_listening_beyond_this_machine_without_tls_is_refused_and_says_why(tmp_path: Path, host: str) -> None:
    status, said = refusal(BrokerProcess(tmp_path / "data", "--host", host))
    assert status == CONFIGURATION
    assert "--insecure" in said
    assert "in clear" in said


def test_listening_beyond_this_machine_is_for_those_who_ask_for_it(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data", "--host", "0.0.0.0", "--insecure") as broker, broker.client() as client:
        assert client.get("/readyz").status_code == 200


def test_listening_beyond_this_machine_with_tls_needs_no_more(tmp_path: Path, pair: Pair) -> None:
    with over_tls(tmp_path / "data", pair, "--host", "0.0.0.0") as broker, broker.client() as client:
        assert client.get("/readyz").status_code == 200


# --- clients that do not read ------------------------------------------------------------------------------------


async def test_a_client_that_reads_nothing_is_cut_off_and_its_messages_are_free_again(broker: BrokerProcess) -> None:
    async with rest(broker) as client:
        stuck = await wss(broker)
        await stuck.call("subscribe", queue="big", credit=1_000)
        stuck.stop_reading()
        published = [id_ for _ in range(20) for id_ in await client.publish("big", *["x" * 200_000] * 5)]
        await freed(client, 60)
        back: list[str] = []
        while len(back) < len(published):
            back += ids(await client.collect("big", min(20, len(published) - len(back))))
        assert sorted(back) == sorted(published)
        stuck.resume_reading()
        async with asyncio.timeout(30):
            assert await stuck.closed in (None, 1006, 4508)


async def test_a_silent_client_is_given_up_as_fast_as_without_tls(tmp_path: Path, pair: Pair) -> None:
    with over_tls(tmp_path / "data", pair, "--heartbeat-ms", "1000") as broker:
        async with rest(broker) as client:
            silent = await wss(broker)
            await silent.call("subscribe", queue="big")
            silent.stop_reading()  # and so does not answer pings
            await freed(client, 10)  # not only when it has not said goodbye either
            silent.resume_reading()
            async with asyncio.timeout(30):
                assert await silent.closed in (None, 1006, 4509)


@pytest.mark.parametrize("polite", [True, False])
async def test_a_client_that_left_while_it_waited_takes_no_message(broker: BrokerProcess, polite: bool) -> None:
    assert broker.trust is not None
    async with rest(broker) as client:
        raw = socket.create_connection(address(broker), 10)
        leaving = broker.trust.wrap_socket(raw, server_hostname="localhost")
        leaving.sendall(
            b"GET /queues/big/messages/consume?wait_ms=60000 HTTP/1.1\r\nHost: localhost\r\n"
            b"Authorization: Bearer %b\r\n\r\n" % broker.token().encode()
        )
        await client.parked("big")
        (leaving.unwrap() if polite else leaving).close()
        await freed(client, 10)
        published = await client.publish("big", 1)
        assert ids(await client.collect("big", 1)) == published


async def freed(client: Rest, timeout: float) -> None:
    """Wait until nobody consumes any more."""

    async def gone() -> bool:
        return not await client.consumers("big")

    await eventually(gone, timeout)
