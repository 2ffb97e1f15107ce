"""Manifests as `kubectl apply` reads them: a folder, a file, an overlay, or standard input."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from serving.deploy.errors import BadInput
from serving.deploy.objects import Object
from serving.section import DistinctKeys

_ENDINGS = (".yaml", ".yml", ".json")
_OVERLAY_FILES = ("kustomization.yaml", "kustomization.yml")


@dataclass(frozen=True)
class Manifests:
    """Objects of one source, which is as kubectl takes it: "-f k8s" or "-k deploy/overlays/cpu"."""

    source: str
    objects: tuple[Object, ...]

    def of_kind(self, *kinds: str) -> list[Object]:
        return [obj for obj in self.objects if obj["kind"] in kinds]

    @property
    def service(self) -> Object:
        """The RayService. Raises BadInput unless there is one."""
        services = self.of_kind("RayService")
        if len(services) != 1:
            raise BadInput(
                f"{self.source} has {len(services)} RayServices instead of one: "
                "name the folder k8s, or one of its overlays"
            )
        return services[0]

    @property
    def namespace(self) -> str:
        """The namespace of the RayService. Raises BadInput unless there is one."""
        return str(self.service["metadata"].get("namespace") or "default")


def read(path: Path) -> Manifests:
    """Reads a folder (only its own files, in the order of their names), a file, an overlay (a
    folder with a kustomization.yaml, through `kubectl kustomize`), or standard input for -. Raises
    BadInput.
    """
    if str(path) == "-":
        return Manifests("-f -", tuple(_parse(sys.stdin.read(), "standard input")))
    if any((path / name).exists() for name in _OVERLAY_FILES):
        return Manifests(f"-k {path}", tuple(_parse(_kustomized(path), str(path))))
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in _ENDINGS)
    else:
        files = [path]
    try:
        objects = [obj for file in files for obj in _parse(file.read_text("utf-8"), str(file))]
    except (OSError, UnicodeError) as error:
        raise BadInput(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if not objects:
        raise BadInput(f"{path} has no manifests: files that end in {', '.join(_ENDINGS)}")
    return Manifests(f"-f {path}", tuple(objects))


def _kustomized(path: Path) -> str:
    try:
        result = subprocess.run(
            ["kubectl", "kustomize", str(path)], capture_output=True, text=True, check=False
        )
    except OSError:
        raise BadInput(
            f"{path} is an overlay, which `kubectl kustomize` builds, and kubectl is not "
            "installed here"
        ) from None
    if result.returncode:
        raise BadInput(f"`kubectl kustomize {path}` failed: {result.stderr.strip()}")
    return result.stdout


class _Loader(DistinctKeys, yaml.CSafeLoader):
    pass


def _parse(text: str, where: str) -> list[Object]:
    try:
        documents = [each for each in yaml.load_all(text, _Loader) if each is not None]
    except yaml.YAMLError as error:
        raise BadInput(f"{where} cannot be read as YAML: {error}") from None
    objects: list[Any] = []
    for document in documents:
        if isinstance(document, dict) and document.get("kind") == "List":
            objects += document.get("items") or []
        else:
            objects.append(document)
    for obj in objects:
        metadata = obj.get("metadata") if isinstance(obj, dict) else None
        named = isinstance(metadata, dict) and isinstance(metadata.get("name"), str)
        if not (named and isinstance(obj.get("apiVersion"), str) and obj.get("kind")):
            raise BadInput(
                f"{where} has a document that is not a Kubernetes object: each needs apiVersion, "
                "kind and metadata.name"
            )
    return objects
