"""GraphQL over HTTP, judged by the audits of the npm package graphql-http."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import BrokerProcess
from tests.system.conftest import missing

HERE = Path(__file__).parent
# Queries by GET are not taken (D30): the three that ask for them may, as their names say, be answered otherwise.
BY_GET = {"5A70", "D6D5", "6A70"}


@pytest.fixture(scope="module")
def audits(broker: BrokerProcess) -> dict[str, dict[str, str]]:
    node = shutil.which("node", path=str(Path(sys.executable).parent)) or shutil.which("node")
    if node is None or not (HERE.parent / "npm" / "node_modules" / "graphql-http").is_dir():
        missing("node, or what `npm ci` in tests/npm installs", possible_here=True)
        raise AssertionError
    argv = [node, str(HERE / "audit.mjs"), f"{broker.url}/graphql", broker.token()]
    run = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)
    assert run.returncode == 0, run.stderr
    found = [json.loads(line) for line in run.stdout.splitlines()]
    return {audit["id"]: audit for audit in found}


def test_every_audit_passes_but_those_of_queries_by_get(audits: dict[str, dict[str, str]]) -> None:
    assert len(audits) > 50
    failed = {id_: (audit["name"], audit["reason"]) for id_, audit in audits.items() if audit["status"] != "ok"}
    assert failed.keys() == BY_GET, failed
    assert all(name.startswith("MAY") for name, _ in failed.values())
