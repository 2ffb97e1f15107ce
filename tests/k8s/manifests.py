"""The manifests of k8s/ as objects, and the pods that come of them."""

import functools
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
OVERLAYS = ROOT / "deploy/overlays"
OVERLAY_NAMES = sorted(path.name for path in OVERLAYS.iterdir())
ADD_ONS = sorted(path.name for path in K8S.iterdir() if path.is_dir())
"""Subfolders of what needs further CRDs."""

needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not installed: overlays are not checked"
)


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML readers silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(
                None, None, f"stands twice: {', '.join(map(str, twice))}", node.start_mark
            )
        return super().construct_mapping(node, deep)


def parse(text: str) -> list[Object]:
    """The objects of a stream of YAML documents. Raises yaml.YAMLError."""
    return [document for document in yaml.load_all(text, _Loader) if document is not None]


def folder(path: Path) -> list[Object]:
    """What `kubectl apply -f path/` reads: no subfolders, by these endings, in this order."""
    files = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml", ".json"))
    return [object_ for file in files for object_ in parse(file.read_text())]


@functools.cache
def base() -> list[Object]:
    """What `kubectl apply -f k8s/` sends. All share it: change a copy."""
    return folder(K8S)


@functools.cache
def kustomized(folder: Path) -> list[Object]:
    """What `kubectl apply -k folder` sends. All share it: change a copy."""
    command = ["kubectl", "kustomize", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return parse(result.stdout)


def name(object_: Object) -> str:
    return f"{object_['kind']} {object_['metadata']['name']}"


def of_kind(objects: Iterable[Object], kind: str) -> list[Object]:
    return [object_ for object_ in objects if object_["kind"] == kind]


def the(objects: Iterable[Object], kind: str, name: str | None = None) -> Object:
    """The one of that kind, and of that name if one is given."""
    (found,) = [
        object_
        for object_ in of_kind(objects, kind)
        if name is None or object_["metadata"]["name"] == name
    ]
    return found


@dataclass(frozen=True)
class Pod:
    """A kind of pod, with the labels that it has when it runs."""

    owner: str
    """As "RayService mistral, group engine"."""
    namespace: str
    labels: dict[str, str]
    spec: Object
    count: int
    """How many there may be, in one cluster."""

    @property
    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]

    @property
    def component(self) -> str:
        return self.labels["app.kubernetes.io/component"]


def pods(objects: Iterable[Object]) -> list[Pod]:
    return [pod for object_ in objects for pod in _pods_of(object_)]


def _pods_of(object_: Object) -> Iterator[Pod]:
    namespace = object_["metadata"].get("namespace", "default")
    spec = object_.get("spec", {})
    if object_["kind"] == "RayService":
        yield from _ray_pods(object_)
    elif object_["kind"] in ("Job", "StatefulSet", "Deployment"):
        template = spec["template"]
        labels = template["metadata"]["labels"]
        yield Pod(name(object_), namespace, labels, template["spec"], spec.get("replicas", 1))


def _ray_pods(rayservice: Object) -> Iterator[Pod]:
    """As KubeRay labels them (labelPod and BuildPod of its controllers/ray/common/pod.go)."""
    cluster = rayservice["spec"]["rayClusterConfig"]
    namespace = rayservice["metadata"].get("namespace", "default")

    def pod(node_type: str, group: str, serve: str, template: Object, count: int) -> Pod:
        labels = {
            "app.kubernetes.io/name": "kuberay",
            "app.kubernetes.io/created-by": "kuberay-operator",
            "ray.io/is-ray-node": "yes",
            **template.get("metadata", {}).get("labels", {}),
            "ray.io/cluster": f"{rayservice['metadata']['name']}-x1y2z",
            "ray.io/node-type": node_type,
            "ray.io/group": group,
            "ray.io/serve": serve,
        }
        owner = f"{name(rayservice)}, {group if node_type == 'worker' else node_type}"
        return Pod(owner, namespace, labels, template["spec"], count)

    head = cluster["headGroupSpec"]["template"]
    options = cluster.get("autoscalerOptions", {})
    autoscaler = {
        "name": "autoscaler",
        "image": options.get("image", head["spec"]["containers"][0]["image"]),
        "resources": options.get("resources", {"requests": {"cpu": "500m", "memory": "512Mi"}}),
        **{
            key: options[key]
            for key in ("env", "volumeMounts", "securityContext")
            if key in options
        },
    }
    containers = head["spec"]["containers"]
    if cluster.get("enableInTreeAutoscaling"):
        containers = [*containers, autoscaler]
    yield pod(
        "head", "headgroup", "false", head | {"spec": head["spec"] | {"containers": containers}}, 1
    )
    ray_container = head["spec"]["containers"][0] | {
        "resources": {"requests": {"cpu": "200m", "memory": "256Mi"}, "limits": {"memory": "256Mi"}}
    }
    cleanup = head["spec"] | {"containers": [ray_container]}
    yield pod("redis-cleanup", "headgroup", "false", head | {"spec": cleanup}, 1)
    for group in cluster["workerGroupSpecs"]:
        count = group.get("maxReplicas", 2**31 - 1) * group.get("numOfHosts", 1)
        yield pod("worker", group["groupName"], "true", group["template"], count)


def in_steps(rayservice: Object) -> bool:
    """Whether an upgrade moves clients bit by bit, by a Gateway that KubeRay makes."""
    strategy = rayservice["spec"].get("upgradeStrategy", {})
    return bool(strategy.get("type") == "NewClusterWithIncrementalUpgrade")


_SUFFIXES = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12} | {
    f"{unit}i": 1024.0**power for power, unit in enumerate("KMGT", start=1)
}


def quantity(value: object) -> float:
    """A Kubernetes quantity such as 500m or 16Gi, in its unit."""
    text = str(value)
    digits = text.rstrip("kKMGTim")
    return float(digits) * (_SUFFIXES[text[len(digits) :]] if len(digits) < len(text) else 1)
