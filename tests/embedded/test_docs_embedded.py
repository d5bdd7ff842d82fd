"""Every block of docs/embedded.md runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.system

ROOT = Path(__file__).parent.parent.parent
BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/embedded.md").read_text(), re.DOTALL | re.MULTILINE)
TESTS = [block for block in BLOCKS if block.startswith("# ")]
SCRIPTS = [block for block in BLOCKS if not block.startswith("# ")]


def test_there_are_blocks_of_both_kinds() -> None:
    assert (len(SCRIPTS), len(TESTS)) == (4, 2)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(SCRIPTS.index(script)))
def test_a_script_runs_and_says_something(script: str, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() and not done.stderr


def test_the_tests_of_the_page_pass(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    orders, conftest = TESTS
    pytester.makepyfile(test_orders=orders)
    plugins = ("-p", "streambroker.pytest_plugin", "-p", "pytest_asyncio.plugin", "-o", "asyncio_mode=auto")
    pytester.runpytest_subprocess(*plugins, timeout=100).assert_outcomes(passed=2)
    pytester.makeconftest(conftest)
    result = pytester.runpytest_subprocess(*plugins, "-k", "lease", timeout=100)
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*NotFound*there is no queue orders*"])
