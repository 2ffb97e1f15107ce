"""The CPU overlay fits the node that it and the documents promise."""

import re
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from serving.deploy.pods import usage, wanted
from serving.deploy.quantity import quantity
from serving.deploy.serve_config import config_of
from tests.k8s.manifests import OVERLAYS, ROOT, needs_kubectl, overlay

pytestmark = needs_kubectl

CORES, MEMORY_GIB = 2, 10
BESIDE = {
    # Requests of kind 0.30's pods: etcd, API server, scheduler, controllers, two of DNS, network.
    "kube-system": {"cpu": "950m", "memory": "290Mi"},
    "operator": {"cpu": "100m", "memory": "512Mi"},  # KubeRay's chart, 1.7.0
}


def test_its_pods_fit_the_node_beside_kubernetes_and_the_operator() -> None:
    need: defaultdict[str, Decimal] = defaultdict(Decimal)
    for pods in wanted(overlay("cpu").objects):
        for name, amount in usage(pods.spec).items():
            need[name] += amount * pods.count
    for requests in BESIDE.values():
        for resource, text in requests.items():
            need[f"requests.{resource}"] += quantity(text)
    assert need["requests.cpu"] <= CORES
    assert need["requests.memory"] <= MEMORY_GIB * 2**30


def test_an_update_in_place_needs_no_other_pod() -> None:
    service = overlay("cpu").service
    config = config_of(service)
    (model,) = config.models
    (group,) = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    # Ray Serve starts the successor of a router beside it, and of an engine while that drains.
    replicas = [config.router.cpus] * 2 + [model.cpus] * (model.replicas + 1)
    assert sum(replicas) <= float(group["rayStartParams"]["num-cpus"])


@pytest.mark.parametrize("document", ["deploy/README.md", "deploy/overlays/cpu/kustomization.yaml"])
def test_the_documents_say_the_same(document: str) -> None:
    text = re.sub(r"\s+#?\s*", " ", (ROOT / document).read_text())
    assert f"{CORES} cores and {MEMORY_GIB} GiB of memory for the node" in text


def test_nothing_waits_for_weights_that_the_image_has() -> None:
    manifests = overlay("cpu")
    assert not manifests.of_kind("Job") and not manifests.of_kind("PersistentVolumeClaim")
    assert "initContainers" not in str(manifests.service)


def test_the_image_of_its_steps_is_the_one_that_it_names() -> None:
    steps = (OVERLAYS / "cpu/kustomization.yaml").read_text()
    assert yaml.safe_load(steps)["images"][0]["newName"] == "localhost/mistral-serve-cpu"
    (image,) = set(re.findall(r"localhost/mistral-serve-cpu:\S+", steps))
    assert {
        container["image"]
        for pods in wanted(overlay("cpu").objects)
        for container in pods.spec["containers"]
        if "redis" not in container["image"]
    } == {image}
    assert (ROOT / Path("deploy/secrets.sh")).exists() and "deploy/secrets.sh" in steps
