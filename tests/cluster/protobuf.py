"""The protobuf that `kubectl create` and `kubectl auth can-i` send instead of JSON.

Of the few kinds that anyone makes so; everything else comes as JSON.
"""

import base64
from collections.abc import Iterator
from typing import Any

from tests.cluster.errors import ApiError, Object

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"

# Of each message, the fields that are read: number to name and type. A type is the name of another
# message, or how a field's bytes are read; "{...}" is a map of strings to that.
_MESSAGES: dict[str, dict[int, tuple[str, str]]] = {
    "Unknown": {1: ("typeMeta", "TypeMeta"), 2: ("raw", "raw")},
    "TypeMeta": {1: ("apiVersion", "text"), 2: ("kind", "text")},
    "ObjectMeta": {
        1: ("name", "text"),
        2: ("generateName", "text"),
        3: ("namespace", "text"),
        11: ("labels", "{text}"),
        12: ("annotations", "{text}"),
    },
    "Namespace": {1: ("metadata", "ObjectMeta")},
    "ServiceAccount": {1: ("metadata", "ObjectMeta")},
    "ConfigMap": {1: ("metadata", "ObjectMeta"), 2: ("data", "{text}")},
    "Secret": {1: ("metadata", "ObjectMeta"), 2: ("data", "{base64}"), 3: ("type", "text")},
    "SelfSubjectAccessReview": {1: ("metadata", "ObjectMeta"), 2: ("spec", "ReviewSpec")},
    "ReviewSpec": {1: ("resourceAttributes", "ResourceAttributes")},
    "ResourceAttributes": {
        number: (name, "text")
        for number, name in enumerate(
            ("namespace", "verb", "group", "version", "resource", "subresource", "name"), 1
        )
    },
}


def decoded(body: bytes) -> Object:
    """The object in a request's body; ApiError 415 for a kind that is not known here."""
    envelope = _message("Unknown", body.removeprefix(_MAGIC))
    kind = envelope["typeMeta"]["kind"]
    if kind not in _MESSAGES:
        why = f"the test server reads no protobuf of a {kind}: send JSON"
        raise ApiError(415, "UnsupportedMediaType", why)
    found: Object = envelope["typeMeta"] | _message(kind, envelope["raw"])
    return found


def _message(name: str, data: bytes) -> Object:
    found: Object = {}
    for number, value in _fields(data):
        field, kind = _MESSAGES[name].get(number, ("", ""))
        if kind.startswith("{"):
            entry = dict(_fields(value))
            read = _value(kind.strip("{}"), entry.get(2, b""))
            found.setdefault(field, {})[entry[1].decode()] = read
        elif field and value:
            found[field] = _value(kind, value)
    return found


def _value(kind: str, data: bytes) -> Any:
    match kind:
        case "text":
            return data.decode()
        case "base64":
            return base64.b64encode(data).decode()
        case "raw":
            return data
    return _message(kind, data)


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message that have a length: strings, bytes and messages, by number."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        value, at = _varint(message, at)
        if tag & 7 == 2:
            yield tag >> 3, message[at : at + value]
            at += value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            return value, at
