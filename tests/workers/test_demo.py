"""The demo as a newcomer runs it: it says what happened, and its exit status says whether that was right."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.system
def test_the_demo_works_off_every_job_and_tells_what_happened() -> None:
    command = [sys.executable, "-m", "workers.demo"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "published 33 jobs in one batch" in run.stdout
    assert re.search(r"done by +poll-1: [1-9]\d*, socket-1: [1-9]", run.stdout)
    assert "31 done, 2 tried more than once, 2 dead letters" in run.stdout
    assert "rejected: a word_count needs its text as a string" in run.stdout
    assert "attempts: the source did not answer (attempt 3)" in run.stdout
