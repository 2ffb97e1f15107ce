"""Changes that manifests would make in a cluster, as `kubectl diff --server-side` shows them."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from serving.deploy.apply import placed, stripped
from serving.deploy.effect import Effect, effects
from serving.deploy.errors import DeployError
from serving.deploy.kube import Kube, named
from serving.deploy.objects import Object


@dataclass(frozen=True)
class Difference:
    """A unified diff of one object, with the effects if it is a RayService that exists."""

    name: str
    lines: list[str]
    effects: tuple[Effect, ...] = ()


def differences(kube: Kube, objects: Iterator[Object]) -> Iterator[Difference]:
    """A difference for each object that would change. Raises DeployError."""
    for obj in objects:
        obj = placed(kube, obj)
        metadata = obj["metadata"]
        namespace = metadata.get("namespace", "")
        live = kube.get(obj["apiVersion"], obj["kind"], metadata["name"], namespace)
        trial, what = _trial(kube, obj, live)
        lines = diff(live, trial, named(obj))
        if lines:
            changes = live is not None and obj["kind"] == "RayService"
            yield Difference(named(obj), [*what, *lines],
                             effects(live, trial) if live and changes else ())  # fmt: skip


def _trial(kube: Kube, obj: Object, live: Object | None) -> tuple[Object, list[str]]:
    """The object after a dry run, and lines to show before its diff."""
    if live is None:
        return obj, []
    try:
        return kube.apply(obj, dry_run=True), []
    except DeployError as error:
        if obj["kind"] == "Job" and "immutable" in str(error):
            return _over(live, obj), [f"# {named(obj)} is recreated: a Job cannot be changed"]
        raise


def _over(live: Any, obj: Any) -> Any:
    """The manifest with the defaults that the live object has."""
    if isinstance(live, dict) and isinstance(obj, dict):
        return live | {key: _over(live.get(key), each) for key, each in obj.items()}
    if isinstance(live, list) and isinstance(obj, list) and len(live) == len(obj):
        return [_over(*pair) for pair in zip(live, obj, strict=True)]
    return obj


def diff(live: Object | None, wanted: Object, name: str) -> list[str]:
    before = _text(live) if live else []
    return list(
        difflib.unified_diff(before, _text(wanted), f"{name} (cluster)", f"{name} (manifest)",
                             lineterm="")
    )  # fmt: skip


def _text(obj: Object) -> list[str]:
    shown = stripped(obj)
    if obj["kind"] == "Secret":
        shown = shown | {
            part: dict.fromkeys(shown[part], "***") for part in ("data", "stringData")
            if part in shown
        }  # fmt: skip
    return yaml.dump(shown, Dumper=_Dumper, sort_keys=True, width=100).splitlines()


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such, so that a diff shows the line that changed."""


def _string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _string)
