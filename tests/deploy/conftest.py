"""The installation that the tests of wheel and image share, and what to do where a tool is missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.deploy.installed import Installed, shared

SYSTEM = {"test_wheel.py", "test_image.py", "test_proxies.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "deploy" and item.path.name in SYSTEM:
            item.add_marker(pytest.mark.system)
            item.add_marker(pytest.mark.timeout(300))  # the first of them installs
            item.add_marker(pytest.mark.xdist_group("deploy"))


def tool(name: str, package: str) -> str:
    """The path of a command; where it is missing the test is skipped, and on CI fails."""
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if path is None:
        reason = f"{name} is not installed (Debian package {package})"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    base = tmp_path_factory.getbasetemp()
    # Each worker of xdist has a directory of its own in that of the run.
    run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with shared(run / "deploy") as installation:
        yield installation
