"""The package as users get it: installed by the Dockerfile's own commands, without extras, and as the SDK alone."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.dockerfile import DOCKERFILE, ROOT

PATIENCE_S = 240
SDK_NEEDS = ("httpx", "websockets", "msgspec")


@dataclass(frozen=True, slots=True)
class Installed:
    """The ``/src``, ``/opt/build`` and ``/opt/streambroker`` of the Dockerfile, and more, below one directory."""

    directory: Path

    @property
    def source(self) -> Path:
        return self.directory / "src"

    @property
    def image(self) -> Path:
        """The virtual environment that the image holds."""
        return self.directory / "opt/streambroker"

    @property
    def bare(self) -> Path:
        """One with the wheel and what it asks for, and no extra."""
        return self.directory / "bare"

    @property
    def sdk(self) -> Path:
        """One with the wheel and the three libraries that the SDK names."""
        return self.directory / "sdk"

    @property
    def wheel(self) -> Path:
        (wheel,) = (self.source / "dist").glob("*.whl")
        return wheel

    def here(self, command: str) -> str:
        """A command of the Dockerfile with its paths moved."""
        return command.replace("/opt/", f"{self.directory}/opt/")


@contextmanager
def shared(directory: Path) -> Iterator[Installed]:
    """One installation for all processes of a test run: the first makes it, the last removes it."""
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed = Installed(directory / "installed")
        if _users(directory) == 0:
            shutil.rmtree(installed.directory, ignore_errors=True)
            _install(installed)
        _count(directory, 1)
        fcntl.flock(lock, fcntl.LOCK_UN)
        try:
            yield installed
        finally:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _count(directory, -1)
            if _users(directory) == 0:
                shutil.rmtree(installed.directory)


def _users(directory: Path) -> int:
    counter = directory / "users"
    return int(counter.read_text()) if counter.exists() else 0


def _count(directory: Path, change: int) -> None:
    (directory / "users").write_text(str(_users(directory) + change))


def _install(installed: Installed) -> None:
    """Stage 1 of the Dockerfile; and, on the way, what is to have less than the image."""
    installed.source.mkdir(parents=True)
    (installed.directory / "opt").mkdir()
    for step in DOCKERFILE:
        if step.stage == 1 and step.name == "COPY":
            copy(step.text, installed.source)
        elif step.stage == 1 and step.name == "RUN":
            if "image.txt" in step.text:
                _without_extras(installed)
            run(["sh", "-euc", installed.here(step.text)], installed.source)
    pip = str(installed.directory / "opt/build/bin/pip")
    for environment in (installed.bare, installed.sdk):
        run([pip, "--python", str(environment), "install", "-q", "--no-deps", str(installed.wheel)], installed.source)


def _without_extras(installed: Installed) -> None:
    """Install what needs no extra, and give it to the image's environment too: fetching it twice takes its time."""
    pip = str(installed.directory / "opt/build/bin/pip")
    for environment in (installed.bare, installed.sdk):
        run([sys.executable, "-m", "venv", "--without-pip", str(environment)], installed.source)
    run([pip, "install", "-q", "--require-hashes", "-r", "requirements/build.txt"], installed.source)
    hashed = ["--require-hashes", "-r", str(ROOT / "requirements/run.txt")]
    run([pip, "--python", str(installed.bare), "install", "-q", *hashed], installed.source)
    shutil.copytree(_packages(installed.bare), _packages(installed.image), dirs_exist_ok=True)
    pinned = dict(
        re.findall(r"^([\w.-]+)==(\S+)", (installed.source / "requirements/image.txt").read_text(), re.MULTILINE)
    )
    wanted = [f"{name}=={pinned[name]}" for name in SDK_NEEDS]
    run([pip, "--python", str(installed.sdk), "install", "-q", *wanted], installed.source)


def _packages(environment: Path) -> Path:
    (found,) = environment.glob("lib/python3*/site-packages")
    return found


def copy(arguments: str, workdir: Path) -> None:
    """COPY, as far as the Dockerfile uses it: from the context into the working directory."""
    *sources, destination = arguments.split()
    for source in sources:
        assert in_context(source), f".dockerignore leaves {source} out"
        if (ROOT / source).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "node_modules")
            shutil.copytree(ROOT / source, workdir / destination, ignore=ignored)
        else:
            target = workdir / destination
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / source, target)


def in_context(path: str) -> bool:
    """Whether .dockerignore, which leaves out everything and lets some in again, lets it in."""
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    assert rules[0] == "*"
    return f"!{path.split('/')[0]}" in {rule.rstrip("/") for rule in rules}


def run(argv: list[str], cwd: Path) -> str:
    """Its output; fails with all that it said."""
    # The image has a `python`; a machine may have a `python3` only.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        argv, cwd=cwd, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, f"{argv}\n{done.stdout}{done.stderr}"
    return done.stdout
