"""Through a real nginx and a real Caddy, configured as in deploy: TLS, WebSockets, events, long-polls, addresses."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import connect_sse
from websockets.sync.client import connect

from streambroker import certificates
from streambroker.protocol.frames import SUBPROTOCOL
from tests.deploy.conftest import tool
from tests.deploy.dockerfile import ROOT
from tests.harness import PASSWORD, BrokerProcess

HOST = "broker.example.com"
CADDYFILE = ROOT / "deploy/caddy/Caddyfile"
AROUND = """\
daemon off;
user root; # its temporary files lie below a directory of our own
pid {directory}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/streambroker.conf;
}}
"""


@dataclass(frozen=True, slots=True)
class Proxied:
    """A broker behind nginx or Caddy, and how to trust its certificate."""

    broker: BrokerProcess
    port: int
    context: ssl.SSLContext

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        """Logged in as the admin, through the proxy, by the name that the configuration has."""
        headers = {"Authorization": f"Bearer {self.broker.token()}", "Host": HOST}
        return httpx.Client(base_url=self.url, verify=self.context, headers=headers, timeout=30, trust_env=False)

    def websocket(self, **headers: str) -> Any:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        return connect(
            f"wss://{HOST}/ws",
            sock=sock,
            ssl=self.context,
            server_hostname=HOST,
            subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
            additional_headers={"Authorization": f"Bearer {self.broker.token()}", **headers},
            proxy=None,
        )


def free_ports() -> list[int]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return [one.getsockname()[1], other.getsockname()[1]]


def configuration(directory: Path, broker: BrokerProcess, https: int, http: int) -> str:
    """The file of this repository, with the ports and files of the test."""
    text = (ROOT / "deploy/nginx/streambroker.conf").read_text()
    pair = certificates.make(directory, [HOST], 1, datetime.now(UTC), replace=False)
    ours = {
        "server 127.0.0.1:8000;": f"server {broker.url.removeprefix('http://')};",
        "listen 443 ssl;": f"listen 127.0.0.1:{https} ssl;",
        "listen 80;": f"listen 127.0.0.1:{http};",
        "/etc/ssl/streambroker/chain.pem": str(pair.cert_file),
        "/etc/ssl/streambroker/key.pem": str(pair.key_file),
    }
    for written, changed in ours.items():
        assert text.count(written) == 1, written
        text = text.replace(written, changed)
    return text


def wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None and time.monotonic() < deadline, "the proxy does not run"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.02)


def caddyfile(directory: Path, broker: BrokerProcess, https: int) -> str:
    """Caddy's file of this repository, with the ports of the test and a certificate that needs nobody."""
    text = CADDYFILE.read_text()
    pair = certificates.make(directory, [HOST], 1, datetime.now(UTC), replace=False)
    ours = {
        f"{HOST} {{": f"https://{HOST}:{https} {{\n\tbind 127.0.0.1\n\ttls {pair.cert_file} {pair.key_file}",
        "reverse_proxy 127.0.0.1:8000 {": f"reverse_proxy {broker.url.removeprefix('http://')} {{",
    }
    for written, changed in ours.items():
        assert text.count(written) == 1, written
        text = text.replace(written, changed)
    return "{\n\tadmin off\n\tauto_https disable_redirects\n\tgrace_period 1s\n}\n" + text


def run_nginx(directory: Path, broker: BrokerProcess, https: int, http: int) -> subprocess.Popen[bytes]:
    """nginx with our file; it has no warning for it."""
    nginx = tool("nginx", "nginx-light")
    (directory / "streambroker.conf").write_text(configuration(directory, broker, https, http))
    (directory / "nginx.conf").write_text(AROUND.format(directory=directory))
    command = [nginx, "-p", str(directory), "-c", str(directory / "nginx.conf")]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, timeout=30, check=False)
    assert checked.returncode == 0 and "[warn]" not in checked.stderr.replace('"user" directive', ""), checked.stderr
    return subprocess.Popen(command)


def run_caddy(directory: Path, broker: BrokerProcess, https: int, http: int) -> subprocess.Popen[bytes]:
    """Caddy with our file; `http` is not used, for its redirection is Caddy's own."""
    caddy = tool("caddy", "caddy")
    (directory / "Caddyfile").write_text(caddyfile(directory, broker, https))
    command = [caddy, "run", "--adapter", "caddyfile", "--config", str(directory / "Caddyfile")]
    return subprocess.Popen(command, env={"HOME": str(directory), "PATH": "/usr/bin:/bin"}, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module", params=[run_nginx, run_caddy], ids=["nginx", "caddy"])
def proxied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    directory = tmp_path_factory.mktemp("proxy")
    https, http = free_ports()
    given = ("--trusted-proxies", "127.0.0.1", "--allowed-hosts", HOST, "--access-log", "all")
    with BrokerProcess(directory / "data", *given) as broker:
        process: subprocess.Popen[bytes] = request.param(directory, broker, https, http)
        try:
            wait_until_it_listens(process, https)
            yield Proxied(broker, https, ssl.create_default_context(cafile=str(directory / "cert.pem")))
        finally:
            process.terminate()
            process.wait(30)


def test_requests_go_through_under_the_public_name(proxied: Proxied) -> None:
    with proxied.client() as client:
        assert client.post("/queues/a/messages", json={"content": 1}).is_success
        assert client.get("/dashboard", follow_redirects=True).status_code == 200
        assert "max-age" in client.get("/readyz").headers["strict-transport-security"]
        large = client.post("/queues/a/messages", json={"content": "x" * 2_000_000})
    assert (large.status_code, large.json()["code"]) == (413, "too_large"), large.text


def test_a_websocket_consumes_through_it(proxied: Proxied) -> None:
    with proxied.client() as client, proxied.websocket(Origin=f"https://{HOST}") as websocket:
        assert json.loads(websocket.recv(10))["op"] == "welcome"
        client.post("/queues", json={"name": "b"})
        websocket.send(json.dumps({"op": "subscribe", "id": 1, "queue": "b", "credit": 1}))
        client.post("/queues/b/messages", json={"content": "hello"})
        said = [json.loads(websocket.recv(10)) for _ in range(2)]
    assert [frame["op"] for frame in said] == ["ok", "deliver"] and "hello" in json.dumps(said)


def test_events_come_one_by_one_and_are_not_gathered(proxied: Proxied) -> None:
    with proxied.client() as client, proxied.client() as other:
        client.post("/queues", json={"name": "c"})
        with connect_sse(client, "GET", "/queues/c/events") as source:
            assert source.response.status_code == 200
            events = source.iter_sse()
            for _ in range(2):  # an event that waited for more would never come
                other.post("/queues/c/messages", json={"content": 1})
                while next(events).event != "new_message":
                    pass


def test_a_long_poll_is_answered_when_a_message_comes(proxied: Proxied) -> None:
    answers: list[httpx.Response] = []

    def poll() -> None:
        with proxied.client() as client:
            answers.append(client.post("/queues/d/messages/consume", json={"wait_ms": 20_000}))

    with proxied.client() as client:
        client.post("/queues", json={"name": "d"})
        polling = threading.Thread(target=poll)
        polling.start()
        while client.get("/queues/d").json()["consumers"] == 0:
            time.sleep(0.02)
        client.post("/queues/d/messages", json={"content": "at last"})
        polling.join(25)
    assert "at last" in answers[0].text


def test_the_broker_hears_who_the_client_is_and_not_what_it_pretends(proxied: Proxied) -> None:
    # Failed logins are counted by address; that of the header would be another each time.
    with httpx.Client(verify=proxied.context, headers={"Host": HOST}, trust_env=False) as client:
        for number in range(20):
            headers = {"X-Forwarded-For": f"203.0.113.{number}"}
            body = {"username": f"nobody{number}", "password": PASSWORD[::-1]}
            reply = client.post(f"{proxied.url}/login", json=body, headers=headers)
            if reply.status_code == 429:
                return
    pytest.fail("an address of the client's own choice was believed")


def test_caddy_takes_its_file(tmp_path: Path) -> None:
    argv = [tool("caddy", "caddy"), "validate", "--adapter", "caddyfile", "--config", str(CADDYFILE)]
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
