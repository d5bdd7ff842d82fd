"""What stands in the Dockerfile: linted, pinned, without root."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.deploy.dockerfile import DOCKERFILE, EXTRAS, ROOT, environment, instructions
from tests.deploy.installed import in_context

HADOLINT = Path(sys.executable).parent / "hadolint"
LOCAL = [step for step in DOCKERFILE if step.name == "COPY" and "--from" not in step.text]


def lint(text: str) -> str:
    argv = [str(HADOLINT), "--no-color", "-"]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout


def test_hadolint_finds_nothing() -> None:
    assert lint((ROOT / "Dockerfile").read_text()) == ""


def test_hadolint_would_find_something() -> None:
    assert "DL3007" in lint('FROM python:latest\nCMD ["true"]\n')


def test_all_that_is_copied_is_in_the_context_and_there() -> None:
    sources = [source for step in LOCAL for source in step.text.split()[:-1]]
    assert [source for source in sources if not in_context(source) or not (ROOT / source).exists()] == []


def test_everything_that_the_wheel_includes_is_copied() -> None:
    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {path.split("/")[0] for path in [*hatch["packages"], *hatch["force-include"]]}
    assert needed <= {source for step in LOCAL for source in step.text.split()[:-1]}


def test_whatever_pip_fetches_is_pinned_by_hash() -> None:
    steps = [part for step in DOCKERFILE if step.name == "RUN" for part in step.text.split("&&")]
    installs = [part for part in steps if "pip" in part and " install " in part]
    assert installs and all("--require-hashes" in part or "--no-deps dist/" in part for part in installs)


def test_the_image_runs_as_a_user_with_a_number_that_is_not_root() -> None:
    (user,) = (step.text for step in DOCKERFILE if step.name == "USER" and step.stage == 2)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def test_the_label_says_the_version_that_is_built() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"VERSION={version}" in [step.text for step in DOCKERFILE if step.name == "ARG"]
    assert f"image: streambroker:{version}" in (ROOT / "docker-compose.yml").read_text()


def test_the_image_has_every_extra_that_a_broker_or_its_operator_uses() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # `client` is a part of `cli`; `embedded` and `pytest` are for programs that bring a broker of their own.
    elsewhere = {"bench", "client", "dev", "embedded", "pytest", "workers"}
    assert set(project["optional-dependencies"]) - elsewhere == EXTRAS


def test_continued_lines_and_comments_are_read_as_a_builder_does() -> None:
    found = instructions('# a\nFROM x\nRUN a \\\n# between\n && b\nENV A=1 \\\n    B=2\nCMD ["c"]\n')
    assert [(step.name, step.text) for step in found[:2]] == [("FROM", "x"), ("RUN", "a && b")]
    assert (environment(found, 1), found[-1].argv) == ({"A": "1", "B": "2"}, ["c"])
