"""Events: what controllers say of an object, as `kubectl describe` shows it."""

import hashlib

from tests.cluster.api import NAMESPACES, Api, now
from tests.cluster.schemas import Object


def record(api: Api, about: Object, reason: str, message: str, kind: str = "Warning") -> None:
    """Keeps one Event for each thing that is said of an object; `kind` is Normal or Warning."""
    metadata = about["metadata"]
    namespace = metadata.get("namespace", "default")
    said = hashlib.sha256(f"{metadata['uid']}{reason}{message}".encode()).hexdigest()[:10]
    name = f"{metadata['name']}.{said}"
    home = api.store.get(NAMESPACES, "", namespace)
    ending = home is None or "deletionTimestamp" in home["metadata"]
    if ending or api.store.has(("", "events"), namespace, name):
        return
    api.create(
        api.kinds["", "events"],
        namespace,
        {
            "metadata": {"name": name},
            "involvedObject": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": metadata["name"],
                "namespace": namespace,
                "uid": metadata["uid"],
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": now(),
            "lastTimestamp": now(),
            "source": {"component": "test"},
        },
    )
