"""The objects, in memory, and the log of their changes that watches read."""

import marshal
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

Object = dict[str, Any]
Json = TypeVar("Json")
Resource = tuple[str, str]
Place = tuple[str, str]
Key = tuple[Resource, str, str]


def copied(value: Json) -> Json:
    """A deep copy of JSON, several times faster than `copy.deepcopy`."""
    new: Json = marshal.loads(marshal.dumps(value))  # type: ignore[arg-type]
    return new


@dataclass(frozen=True)
class Change:
    """`kind` is ADDED, MODIFIED or DELETED."""

    version: int
    kind: str
    resource: Resource
    object: Object
    before: Object | None


class Store:
    """Objects by resource, namespace ("" where there is none) and name.

    What is put is kept as it is and what is got is a copy. Hold `changed` for more than one step.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.version = 0
        # Watches from before this version have to list anew.
        self.oldest_version = 0
        self._objects: dict[Resource, dict[Place, Object]] = defaultdict(dict)
        self._log: list[Change] = []

    def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        with self.changed:
            return copied(self._objects[resource].get((namespace, name)))

    def has(self, resource: Resource, namespace: str, name: str) -> bool:
        with self.changed:
            return (namespace, name) in self._objects[resource]

    def objects(
        self,
        resource: Resource,
        namespace: str = "",
        wanted: Callable[[Object], bool] = lambda _: True,
    ) -> list[Object]:
        """Those of a resource, or of one namespace, that `wanted` says yes to, by name."""
        with self.changed:
            return [
                copied(found)
                for (where, _), found in sorted(self._objects[resource].items())
                if namespace in ("", where) and wanted(found)
            ]

    def matching(self, wanted: Callable[[Key, Object], bool]) -> list[Key]:
        """The keys of the objects that `wanted` says yes to; it must not change them."""
        with self.changed:
            return [key for key, found in self._all() if wanted(key, found)]

    def versions(self) -> dict[Key, str]:
        """The resourceVersion of everything."""
        with self.changed:
            return {key: found["metadata"]["resourceVersion"] for key, found in self._all()}

    def put(self, resource: Resource, new: Object) -> Object:
        """Keeps the object and gives it its resourceVersion."""
        metadata = new["metadata"]
        place = (metadata.get("namespace", ""), metadata["name"])
        with self.changed:
            before = self._objects[resource].get(place)
            metadata["resourceVersion"] = self._next_version()
            kept = self._objects[resource][place] = copied(new)
            self._record("MODIFIED" if before else "ADDED", resource, kept, before)
            return new

    def load(self, resource: Resource, shared: Object) -> None:
        """Keeps an object that is there from the start, itself and not a copy."""
        place = ("", shared["metadata"]["name"])
        self._objects[resource][place] = self._at_version(shared, self._next_version())

    def remove(self, resource: Resource, namespace: str, name: str) -> None:
        with self.changed:
            last = self._objects[resource].pop((namespace, name))
            gone = self._at_version(last, self._next_version())
            self._record("DELETED", resource, gone, last)

    def _all(self) -> Iterator[tuple[Key, Object]]:
        for resource, found in self._objects.items():
            for place, each in found.items():
                yield (resource, *place), each

    def _next_version(self) -> str:
        self.version += 1
        return str(self.version)

    @staticmethod
    def _at_version(obj: Object, version: str) -> Object:
        return obj | {"metadata": obj["metadata"] | {"resourceVersion": version}}

    def changes(self, resource: Resource, since: int) -> list[Change]:
        with self.changed:
            return [
                change
                for change in self._log
                if change.version > since and change.resource == resource
            ]

    def forget_history(self) -> None:
        """Compacts the log as etcd does: a watch that is behind learns that its version is gone."""
        with self.changed:
            self._log.clear()
            self.oldest_version = self.version
            self.changed.notify_all()

    def _record(
        self, kind: str, resource: Resource, changed: Object, before: Object | None
    ) -> None:
        self._log.append(Change(self.version, kind, resource, changed, before))
        self.changed.notify_all()
