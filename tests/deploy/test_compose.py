"""docker-compose.yml and what it mounts: against the specification's schema, and against each other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import tool
from tests.deploy.dockerfile import ROOT

FILE = ROOT / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
PROMETHEUS = ROOT / "deploy/prometheus/prometheus.yml"
GRAFANA = ROOT / "deploy/grafana/provisioning"


def against_the_schema(path: Path) -> subprocess.CompletedProcess[str]:
    argv = [str(Path(sys.executable).parent / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_it_is_what_the_compose_specification_asks_for(tmp_path: Path) -> None:
    done = against_the_schema(FILE)
    assert done.returncode == 0, done.stdout
    (tmp_path / "wrong.yml").write_text("services: {broker: {image: x, tmpfss: /tmp}}")
    assert against_the_schema(tmp_path / "wrong.yml").returncode == 1


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    version = service["image"].rpartition(":")[2]
    assert version.count(".") == 2, "an image is named by its whole version"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), "published beyond this machine"


def test_what_is_mounted_is_there() -> None:
    sources = [mount.split(":")[0] for service in SERVICES.values() for mount in service["volumes"]]
    assert [s for s in sources if not ((ROOT / s).exists() if s.startswith("./") else s in COMPOSE["volumes"])] == []


def test_prometheus_scrapes_the_port_that_the_broker_has_in_the_network_they_share() -> None:
    assert SERVICES["prometheus"]["network_mode"] == "service:broker"
    (job,) = yaml.safe_load(PROMETHEUS.read_text())["scrape_configs"]
    port = SERVICES["broker"]["environment"]["STREAMBROKER_METRICS_PORT"]
    assert job["static_configs"][0]["targets"] == [f"127.0.0.1:{port}"]
    # Named in the alert rules.
    assert f'job="{job["job_name"]}"' in (ROOT / "docs/prometheus/alerts.yml").read_text()


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    (source,) = yaml.safe_load((GRAFANA / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["type"] == "prometheus" and source["isDefault"] and source["url"] == "http://broker:9090"
    assert any(port.endswith(":9090") for port in SERVICES["broker"]["ports"]), "Prometheus answers as the broker"
    (provider,) = yaml.safe_load((GRAFANA / "dashboards/streambroker.yml").read_text())["providers"]
    mounts = dict(mount.split(":")[:2] for mount in SERVICES["grafana"]["volumes"])
    assert mounts["./docs/grafana"] == provider["options"]["path"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert json.loads((ROOT / "docs/grafana" / Path(home).name).read_text())["panels"]


def test_promtool_takes_the_configuration_with_the_rules_beside_it(tmp_path: Path) -> None:
    for mount in SERVICES["prometheus"]["volumes"]:
        source, target, *_ = mount.split(":")
        if source.startswith("./"):
            (tmp_path / Path(target).name).write_bytes((ROOT / source).read_bytes())
    argv = [tool("promtool", "prometheus"), "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules found" in done.stdout


def test_the_stop_is_longer_than_the_drain() -> None:
    assert SERVICES["broker"]["stop_grace_period"] == "30s"
