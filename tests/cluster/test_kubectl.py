"""The real kubectl against the test server."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import examples
from tests.cluster.cluster import Cluster

Object = dict[str, Any]


def folder(at: Path, *objects: Object) -> str:
    at.mkdir(exist_ok=True)
    for index, each in enumerate(objects):
        (at / f"{index:02}.yaml").write_text(yaml.safe_dump(each))
    return str(at)


def applied(cluster: Cluster, manifests: str, *arguments: str) -> str:
    done = cluster.kubectl("apply", "-f", manifests, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def manifests(tmp_path: Path) -> str:
    return folder(tmp_path / "manifests", *examples.SERVICE)


@pytest.mark.parametrize("arguments", [(), ("--server-side",)])
def test_the_second_apply_of_a_folder_changes_nothing(
    kubectl: Cluster, manifests: str, arguments: tuple[str, ...]
) -> None:
    first = applied(kubectl, manifests, *arguments)
    before = kubectl.api.store.versions()
    second = applied(kubectl, manifests, *arguments)
    assert kubectl.api.store.versions() == before
    assert len(first.splitlines()) == len(examples.SERVICE)
    if not arguments:
        assert all(line.endswith(" created") for line in first.splitlines())
        assert all(line.endswith(" unchanged") for line in second.splitlines())


def test_a_dry_run_keeps_nothing(kubectl: Cluster, manifests: str) -> None:
    applied(kubectl, folder(kubectl.folder / "namespace", examples.NAMESPACE))
    before = kubectl.api.store.versions()
    assert "(server dry run)" in applied(kubectl, manifests, "--dry-run=server")
    assert kubectl.api.store.versions() == before


def test_diff_shows_what_apply_would_change(kubectl: Cluster, manifests: str) -> None:
    applied(kubectl, manifests)
    assert kubectl.kubectl("diff", "-f", manifests).returncode == 0
    changed = copy.deepcopy(examples.REDIS)
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "redis:8"
    differs = kubectl.kubectl("diff", "-f", folder(kubectl.folder / "new", changed))
    assert differs.returncode == 1
    assert re.search(r"^\+\s+.*image: redis:8$", differs.stdout, re.MULTILINE)


def test_apply_merges_containers_by_name_and_keeps_what_others_set(kubectl: Cluster) -> None:
    redis = copy.deepcopy(examples.REDIS)
    where = kubectl.folder / "m"
    applied(kubectl, folder(where, examples.NAMESPACE, redis))
    scaled = kubectl.kubectl(
        "patch", "statefulset", "redis", "-n", "mistral", "--type=merge",
        "-p", '{"metadata": {"labels": {"by": "hand"}}}',
    )  # fmt: skip
    assert scaled.returncode == 0, scaled.stderr
    containers = redis["spec"]["template"]["spec"]["containers"]
    containers.append({"name": "exporter", "image": "exporter:1"})
    applied(kubectl, folder(where, examples.NAMESPACE, redis))
    containers.pop(0)
    applied(kubectl, folder(where, examples.NAMESPACE, redis))
    got = json.loads(
        kubectl.kubectl("get", "statefulset", "redis", "-n", "mistral", "-o", "json").stdout
    )
    names = [each["name"] for each in got["spec"]["template"]["spec"]["containers"]]
    assert names == ["exporter"]
    assert got["metadata"]["labels"] == {"by": "hand"}
    assert got["metadata"]["generation"] == 3


def test_a_missing_namespace_is_named(kubectl: Cluster) -> None:
    done = kubectl.kubectl("apply", "-f", folder(kubectl.folder / "m", examples.REDIS))
    assert done.returncode == 1
    assert 'namespaces "mistral" not found' in done.stderr


def test_a_misspelt_field_is_named(kubectl: Cluster) -> None:
    service = examples.ray_service()
    service["spec"]["serveConfig"] = service["spec"].pop("serveConfigV2")
    done = kubectl.kubectl("apply", "-f", folder(kubectl.folder / "m", examples.NAMESPACE, service))
    assert done.returncode == 1
    assert 'strict decoding error: unknown field "spec.serveConfig"' in done.stderr


def test_get_wait_logs_and_delete(kubectl: Cluster, manifests: str) -> None:
    applied(kubectl, manifests)
    waited = kubectl.kubectl(
        "wait", "--for=condition=Ready", "rayservice/mistral", "-n", "mistral", "--timeout=20s"
    )
    assert waited.returncode == 0, waited.stderr
    listed = kubectl.kubectl("get", "pods", "-n", "mistral", "-l", "ray.io/node-type=worker")
    assert "gpu-worker-0" in listed.stdout
    assert kubectl.kubectl("get", "sts,rayservice", "-A", "-o", "name").stdout.split() == [
        "statefulset.apps/redis",
        "rayservice.ray.io/mistral",
    ]
    kubectl.server.logs["mistral", "redis-0", "redis"] = "one\nReady to accept connections\n"
    logs = kubectl.kubectl("logs", "redis-0", "-n", "mistral", "--tail=1")
    assert logs.stdout == "Ready to accept connections\n"
    deleted = kubectl.kubectl("delete", "rayservice", "mistral", "-n", "mistral")
    assert deleted.returncode == 0, deleted.stderr
    # What the operator made of it goes with it.
    assert kubectl.kubectl("get", "pods", "-n", "mistral", "-o", "name").stdout == "pod/redis-0\n"


def test_secrets_are_made_by_command(kubectl: Cluster) -> None:
    for arguments in (
        ("namespace", "mistral"),
        ("secret", "generic", "hf-token", "-n", "mistral", "--from-literal=HF_TOKEN=a b"),
        ("configmap", "settings", "-n", "mistral", "--from-literal=a=1"),
    ):
        made = kubectl.kubectl("create", *arguments)
        assert made.returncode == 0, made.stderr
    secret = kubectl.api.store.get(("", "secrets"), "mistral", "hf-token")
    assert secret is not None
    assert (secret["data"], secret["type"]) == ({"HF_TOKEN": "YSBi"}, "Opaque")
    again = kubectl.kubectl("create", "namespace", "mistral")
    assert 'namespaces "mistral" already exists' in again.stderr


def test_rollout_status_waits_for_a_deployment(kubectl: Cluster) -> None:
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web:1"}]},
            },
        },
    }
    applied(kubectl, folder(kubectl.folder / "m", deployment))
    done = kubectl.kubectl("rollout", "status", "deployment/web", "--timeout=20s")
    assert 'deployment "web" successfully rolled out' in done.stdout


def test_drain_empties_a_node(kubectl: Cluster, manifests: str) -> None:
    applied(kubectl, manifests)
    where = ("-n", "mistral", "-l", "ray.io/node-type=worker", "-o")
    node = kubectl.kubectl("get", "pods", *where, "jsonpath={.items[0].spec.nodeName}").stdout
    drained = kubectl.kubectl("drain", node, "--delete-emptydir-data", "--force")
    assert drained.returncode == 0, drained.stderr
    # The operator made another pod, and the node is cordoned.
    now = kubectl.kubectl("get", "pods", *where, "jsonpath={.items[*].spec.nodeName}").stdout
    assert now not in ("", node)


def test_a_crd_adds_a_kind(kubectl: Cluster) -> None:
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "queues.example.org"},
        "spec": {
            "group": "example.org",
            "scope": "Namespaced",
            "names": {"kind": "Queue", "plural": "queues", "singular": "queue"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {
                                "spec": {
                                    "type": "object",
                                    "properties": {"length": {"type": "integer", "default": 5}},
                                }
                            },
                        }
                    },
                }
            ],
        },
    }
    applied(kubectl, folder(kubectl.folder / "crd", crd))
    waited = kubectl.kubectl("wait", "--for=condition=Established", "crd/queues.example.org")
    assert waited.returncode == 0, waited.stderr
    queue = {
        "apiVersion": "example.org/v1",
        "kind": "Queue",
        "metadata": {"name": "q", "namespace": "default"},
        "spec": {},
    }
    applied(kubectl, folder(kubectl.folder / "queue", queue))
    got = kubectl.kubectl("get", "queue", "q", "-o", "jsonpath={.spec.length}")
    assert got.stdout == "5"


def test_auth_can_i_says_what_is_denied(kubectl: Cluster) -> None:
    kubectl.faults.denied.add(("create", "secrets", "*"))
    answers = [
        kubectl.kubectl("auth", "can-i", "create", what).stdout.strip()
        for what in ("secrets", "pods")
    ]
    assert answers == ["no", "yes"]
    refused = kubectl.kubectl("create", "secret", "generic", "s", "--from-literal=a=b")
    assert refused.returncode == 1
    assert 'cannot create resource "secrets" in API group ""' in refused.stderr
