"""A watch: the changes of a resource, as one who selects some of its objects sees them."""

from collections.abc import Callable, Iterator

from tests.cluster.api import Api, selected
from tests.cluster.errors import gone
from tests.cluster.schemas import Kind, Object
from tests.cluster.store import Change

# How often a watch that hears nothing looks whether it is to end.
_LOOK_EVERY_S = 0.2


def events(
    api: Api,
    kind: Kind,
    namespace: str,
    labels: str,
    fields: str,
    since: str,
    ended: Callable[[], bool],
) -> Iterator[tuple[str, Object]]:
    """The type and the object of each event after the version `since`, until `ended`.

    Without a version, or with 0, all that is there comes first. One too old yields an error.
    """
    store = api.store
    version = int(since or 0)
    if version == 0:
        with store.changed:
            version = store.version
            present = api.find(kind, namespace, labels, fields)
        yield from (("ADDED", found) for found in present)
    while not ended():
        if version < store.oldest_version:
            why = f"too old resource version: {version} ({store.oldest_version})"
            yield "ERROR", gone(why).as_status()
            return
        with store.changed:
            changes = store.changes(kind.resource, version)
            if not changes:
                store.changed.wait(_LOOK_EVERY_S)
        for change in changes:
            version = change.version
            if namespace in ("", change.object["metadata"].get("namespace", "")):
                matched = change.before is not None and selected(change.before, labels, fields)
                seen = _seen(change, matched, selected(change.object, labels, fields))
                if seen:
                    yield seen, change.object | {"apiVersion": kind.api_version}


def _seen(change: Change, matched: bool, matches: bool) -> str:
    """What a change is to one who selects: an object that no longer matches is gone."""
    if change.kind == "DELETED" or not matches:
        return "DELETED" if matched else ""
    return "MODIFIED" if matched else "ADDED"
