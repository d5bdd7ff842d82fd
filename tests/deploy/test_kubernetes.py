"""The Kubernetes manifests: against the API's own schemas, strictly, and against the image."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from streambroker.config import load
from tests.deploy.dockerfile import DOCKERFILE, ROOT, environment

DIRECTORY = ROOT / "deploy/kubernetes"
KUSTOMIZATIONS = sorted(DIRECTORY.rglob("kustomization.yaml"))


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


BASE = [
    document
    for name in documents(DIRECTORY / "kustomization.yaml")[0]["resources"]
    for document in documents(DIRECTORY / name)
]
KIND = {document["kind"]: document for document in BASE}
POD = KIND["StatefulSet"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


def check(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, "1.31", strict=True)
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("document", BASE, ids=lambda document: f"{document['kind']}-{document['metadata']['name']}")
def test_the_api_takes_it(document: dict[str, Any]) -> None:
    check(document)


def test_the_check_finds_a_field_that_there_is_not() -> None:
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        check({**KIND["StatefulSet"], "spec": {**KIND["StatefulSet"]["spec"], "replica": 1}})


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: path.parent.name)
def test_a_kustomization_names_every_file_beside_it(path: Path) -> None:
    (kustomization,) = documents(path)
    named = {*kustomization.get("resources", ()), *(patch["path"] for patch in kustomization.get("patches", ()))}
    assert named | {path.name} == {file.name for file in path.parent.glob("*.yaml")}


def variables() -> dict[str, str]:
    """What the broker in the pod finds: the image's variables, and the pod's over them."""
    return {**environment(DOCKERFILE, 2), **{each["name"]: each["value"] for each in CONTAINER["env"]}}


def test_the_configuration_is_one_that_a_broker_takes(tmp_path: Path) -> None:
    (tmp_path / "streambroker.toml").write_text(KIND["ConfigMap"]["data"]["streambroker.toml"])
    settings = load({"config": str(tmp_path / "streambroker.toml")}, variables())
    assert settings.insecure and settings.port == CONTAINER["ports"][0]["containerPort"]
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert Path(settings.data_dir).parent == Path(mounts["data"])
    assert CONTAINER["args"][-1].startswith(mounts["config"])


def test_nothing_in_the_configuration_is_overruled_by_a_variable() -> None:
    written = tomllib.loads(KIND["ConfigMap"]["data"]["streambroker.toml"])
    assert written and not {f"STREAMBROKER_{name.upper()}" for name in written} & variables().keys()


def test_the_pod_is_one_that_the_restricted_policy_admits() -> None:
    pod, container = POD["securityContext"], CONTAINER["securityContext"]
    (user,) = (step.text for step in DOCKERFILE if step.name == "USER" and step.stage == 2)
    assert f"{pod['runAsUser']}:{pod['runAsGroup']}" == user and pod["runAsNonRoot"]
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["readOnlyRootFilesystem"] and not container["allowPrivilegeEscalation"]
    assert container["capabilities"] == {"drop": ["ALL"]}


def test_no_variable_of_a_service_stops_the_broker() -> None:
    # Kubernetes would set STREAMBROKER_SERVICE_HOST for the Service, and a broker refuses a setting it does not know.
    assert KIND["Service"]["metadata"]["name"].startswith("streambroker")
    assert POD["enableServiceLinks"] is False


def test_there_is_one_pod_and_its_labels_are_those_that_all_select() -> None:
    spec = KIND["StatefulSet"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    services = [document["spec"]["selector"] for document in BASE if document["kind"] == "Service"]
    policy = KIND["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
    assert spec["replicas"] == 1
    assert [spec["selector"]["matchLabels"], *services, policy] == [labels] * 4
    assert spec["serviceName"] in {document["metadata"]["name"] for document in BASE if document["kind"] == "Service"}


def test_tls_patches_what_is_there() -> None:
    (patch,) = documents(DIRECTORY / "tls/statefulset.yaml")
    (patched,) = patch["spec"]["template"]["spec"]["containers"]
    assert patch["metadata"]["name"] == KIND["StatefulSet"]["metadata"]["name"]
    assert patched["name"] == CONTAINER["name"]
    assert {name for name in patched if name.endswith("Probe")} == {
        name for name in CONTAINER if name.endswith("Probe")
    }
    names = {each["name"]: each["value"] for each in patched["env"]}
    assert load({}, {**names, "STREAMBROKER_HOST": "0.0.0.0"}).tls_cert == "/etc/streambroker-tls/tls.crt"
