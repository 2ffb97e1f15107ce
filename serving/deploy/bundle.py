"""A support bundle: one archive of a service's objects and logs, without secrets and prompts."""

import io
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from serving.deploy import redact
from serving.deploy.errors import DeployError, Unreachable
from serving.deploy.kube import Kube
from serving.deploy.objects import Object
from serving.deploy.pod_logs import files, is_of_ray
from serving.deploy.pods import containers
from serving.deploy.snapshot import take
from serving.deploy.stages import stages

Entry = tuple[str, str]
"""A name in the archive, and the text."""

_IN_NAMESPACE = (
    ("ray.io/v1", "RayService"),
    ("ray.io/v1", "RayCluster"),
    ("v1", "Pod"),
    ("v1", "Event"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "ResourceQuota"),
    ("batch/v1", "Job"),
    ("apps/v1", "StatefulSet"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
)
_NOT_READ = "# not read: "
_OF_CLUSTER = (("v1", "Node"), ("storage.k8s.io/v1", "StorageClass"))


def entries(kube: Kube, namespace: str, log_lines: int) -> Iterator[Entry]:
    """The archive's files; one that cannot be read holds the reason. Raises Unreachable."""
    yield "version.txt", kube.version() + "\n"
    yield "status.txt", _read(_status, kube, namespace)
    for kind in _IN_NAMESPACE:
        yield f"objects/{kind[1]}.yaml", _read(_objects, kube, *kind, namespace)
    for kind in _OF_CLUSTER:
        yield f"objects/{kind[1]}.yaml", _read(_objects, kube, *kind, "")
    for pod, container in _containers(kube, namespace):
        name = f"logs/{pod['metadata']['name']}/{container}"
        yield f"{name}.log", _read(_log, kube, pod, container, log_lines, False)
        if is_of_ray(pod) and container == pod["spec"]["containers"][0]["name"]:
            yield f"{name}.ray.log", _read(_files, kube, pod, log_lines)
        earlier = _read(_log, kube, pod, container, log_lines, True)
        if earlier and not earlier.startswith(_NOT_READ):
            yield f"{name}.previous.log", earlier


def write(path: Path, found: Iterator[Entry]) -> int:
    """Writes the archive and returns the number of its files. Raises OSError."""
    count = 0
    with tarfile.open(path, "w:gz") as archive:
        for name, text in found:
            data = text.encode()
            info = tarfile.TarInfo(f"{path.name.removesuffix('.tar.gz')}/{name}")
            info.size, info.mtime, info.mode = len(data), int(time.time()), 0o600
            archive.addfile(info, io.BytesIO(data))
            count += 1
    return count


def _read(read: Callable[..., str], *arguments: Any) -> str:
    try:
        return read(*arguments)
    except Unreachable:
        raise
    except DeployError as error:
        return f"{_NOT_READ}{error}\n"


def _status(kube: Kube, namespace: str) -> str:
    return _redacted(line for stage in stages(take(kube, namespace)) for line in stage.lines())


def _objects(kube: Kube, api_version: str, kind: str, namespace: str) -> str:
    objects = [redact.cleaned(obj) for obj in kube.find(api_version, kind, namespace)]
    return yaml.safe_dump_all(objects, sort_keys=False)


def _containers(kube: Kube, namespace: str) -> Iterator[tuple[Object, str]]:
    try:
        pods = kube.find("v1", "Pod", namespace)
    except Unreachable:
        raise
    except DeployError:
        return
    for pod in pods:
        for container in containers(pod["spec"]):
            yield pod, container["name"]


def _files(kube: Kube, pod: Object, lines: int) -> str:
    return _redacted(files(kube, pod, lines, False))


def _log(kube: Kube, pod: Object, container: str, lines: int, previous: bool) -> str:
    return _redacted(kube.log(pod, container, lines, previous=previous))


def _redacted(lines: Iterable[str]) -> str:
    return "".join(redact.line(line) + "\n" for line in lines)
