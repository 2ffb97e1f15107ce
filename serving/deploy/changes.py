"""Changes that manifests would make in a cluster."""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from serving.deploy.apply import placed, stripped
from serving.deploy.effect import Effect, effects
from serving.deploy.errors import DeployError
from serving.deploy.kube import Kube, named
from serving.deploy.objects import Object


@dataclass(frozen=True)
class Change:
    """An object that would change."""

    live: Object | None
    """The object as the cluster has it; None if it is new."""
    wanted: Object
    """The object as it would be."""
    recreated: bool = False
    """Whether a new one would take its place."""

    @property
    def name(self) -> str:
        return named(self.wanted)

    @property
    def effects(self) -> tuple[Effect, ...]:
        """What follows in the Ray cluster; empty unless the object is a RayService that exists."""
        if self.live is None or self.wanted["kind"] != "RayService":
            return ()
        return effects(self.live, self.wanted)

    def diff(self) -> list[str]:
        """Returns the lines that `kubectl diff --server-side` shows."""
        before = _text(self.live, self.wanted, "before") if self.live else []
        after = _text(self.wanted, self.live or {}, "after")
        names = f"{self.name} (cluster)", f"{self.name} (manifest)"
        lines = difflib.unified_diff(before, after, *names, lineterm="")
        recreated = f"# {self.name} is recreated: a Job cannot be changed"
        return [recreated, *lines] if self.recreated else list(lines)


def changes(kube: Kube, objects: Iterable[Object]) -> Iterator[Change]:
    """Yields a change for each object that would change, by dry runs. Raises DeployError."""
    for obj in objects:
        obj = placed(kube, obj)
        metadata = obj["metadata"]
        live = kube.get(
            obj["apiVersion"], obj["kind"], metadata["name"], metadata.get("namespace", "")
        )
        change = Change(None, obj) if live is None else _tried(kube, obj, live)
        if live is None or stripped(change.wanted) != stripped(live):
            yield change


def _tried(kube: Kube, obj: Object, live: Object) -> Change:
    try:
        return Change(live, kube.apply(obj, dry_run=True))
    except DeployError as error:
        if obj["kind"] == "Job" and "immutable" in str(error):
            return Change(live, _over(live, obj), recreated=True)
        raise


def _over(live: Any, obj: Any) -> Any:
    """The manifest with the defaults that the live object has."""
    if isinstance(live, dict) and isinstance(obj, dict):
        return live | {key: _over(live.get(key), each) for key, each in obj.items()}
    if isinstance(live, list) and isinstance(obj, list) and len(live) == len(obj):
        return [_over(*pair) for pair in zip(live, obj, strict=True)]
    return obj


def _text(obj: Object, other: Object, side: str) -> list[str]:
    """Returns the lines of an object, without the values of a Secret: those that differ from the
    other object's have the side behind them."""
    shown = stripped(obj)
    if obj["kind"] == "Secret":
        for part in {"data", "stringData"} & shown.keys():
            values = other.get(part) or {}
            shown[part] = {
                key: "***" if values.get(key, value) == value else f"*** ({side})"
                for key, value in shown[part].items()
            }
    return yaml.dump(shown, Dumper=_Dumper, sort_keys=True, width=100).splitlines()


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such, so that a diff shows the line that changed."""


def _string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _string)
