"""What the image does, without an engine: its commands, from its files, with no more rights than a container has."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.dockerfile import DOCKERFILE, environment
from tests.deploy.installed import Installed
from tests.harness import BrokerProcess

IMAGE = environment(DOCKERFILE, 2)
USER = next(step.text for step in DOCKERFILE if step.name == "USER" and step.stage == 2).split(":")[0]
START = next(step.argv for step in DOCKERFILE if step.name == "CMD" and step.stage == 2)
HEALTH = next(step.argv for step in DOCKERFILE if step.name == "HEALTHCHECK")

# A container as far as a kernel makes one: a file system that is read-only but for the data, no capability but to read
# what lies in this test's directories, and the image's user.
CONTAINER = """
mount -t tmpfs tmpfs /mnt
mkdir /mnt/app /mnt/data
mount --bind "$1" /mnt/app
mount --bind "$2" /mnt/data
mount -o remount,bind,ro /
shift 2
cd /
exec setpriv --reuid="$USER_ID" --regid="$USER_ID" --clear-groups --no-new-privs \
  --bounding-set=-all,+dac_read_search --inh-caps=-all,+dac_read_search --ambient-caps=+dac_read_search \
  env -u HOME "$@"
"""


WRITE = """\
import pathlib, sys
for name in sys.argv[1:]:
    try:
        pathlib.Path(name).write_text("")
    except OSError:
        continue
    print(name)
"""


def contained(installed: Installed, data: Path, argv: list[str]) -> tuple[str, ...]:
    """A command line that runs `argv` of the image in something like a container; the image is at /mnt/app there."""
    python = ["/mnt/app/bin/python", "-m", *argv]
    within = ["sh", "-euc", CONTAINER, "sh", str(installed.image), str(data), *python]
    return ("env", f"USER_ID={USER}", "unshare", "--mount", *within)


def settings(**ours: str) -> dict[str, str]:
    """The environment of the image, changed as `docker run -e` would."""
    given = {name: value for name, value in IMAGE.items() if name != "PATH"}
    return {**given, "STREAMBROKER_DATA_DIR": "/mnt/data", "STREAMBROKER_INSECURE": "on", **ours}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory that is the image user's."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root, to mount")
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if subprocess.run(probe, capture_output=True, timeout=20, check=False).returncode != 0:
        pytest.skip("may not mount here")
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    os.chown(directory, int(USER), int(USER))
    return directory


def healthy(broker: BrokerProcess, installed: Installed, data: Path) -> bool:
    """What the image's HEALTHCHECK says of a broker that runs, or has run, there."""
    env = {**os.environ, **settings(STREAMBROKER_PORT=broker.url.rpartition(":")[2])}
    argv = contained(installed, data, HEALTH)
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode == 0


@pytest.mark.needs_root
def test_it_starts_serves_and_stops_where_it_can_write_nothing_but_its_data(installed: Installed, data: Path) -> None:
    command = contained(installed, data, START)
    with BrokerProcess(Path("/mnt/data"), command=command, env=settings()) as broker:
        broker.url = broker.url.replace("0.0.0.0", "127.0.0.1")
        lines = Path(f"/proc/{broker.pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert status["Uid"].split() == [USER] * 4
        assert f"{int(status['CapEff'], 16):b}".count("1") == 1 and status["NoNewPrivs"] == "1"
        assert healthy(broker, installed, data)
        with broker.client() as client:
            assert client.post("/queues/q/messages", json={"content": {"n": 1}}).status_code in (200, 201)
            assert client.post("/graphql", json={"query": "{ __typename }"}).json()["data"]
            assert client.get("/dashboard", follow_redirects=True).status_code == 200
        assert broker.terminate() == 0
        assert not healthy(broker, installed, data)
        assert (data / "streambroker.db").stat().st_uid == int(USER)
        broker.start()
        broker.url = broker.url.replace("0.0.0.0", "127.0.0.1")
        with broker.client() as client:
            assert client.get("/queues/q").json()["counts"]["pending"] == 1


@pytest.mark.needs_root
def test_nothing_but_the_data_can_be_written_in_that_test(installed: Installed, data: Path) -> None:
    argv = [*contained(installed, data, [])[:-1], "-c", WRITE, "/x", "/tmp/x", "/mnt/app/x", "/mnt/data/x"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.returncode) == ("/mnt/data/x\n", 0)


def test_it_does_not_listen_without_tls_unless_told_so(installed: Installed, tmp_path: Path) -> None:
    env = {"PATH": f"{installed.image}/bin:/usr/bin:/bin", "STREAMBROKER_HOST": IMAGE["STREAMBROKER_HOST"]}
    done = subprocess.run(START, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 78 and "without TLS" in done.stderr
