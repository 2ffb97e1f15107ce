"""The protobuf that kubectl's typed commands send instead of JSON, as far as it has to be read.

Only reviews of access are: `kubectl auth can-i`. The body of an eviction says nothing that its
path does not.
"""

from tests.cluster.errors import Object

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_RAW = 2
_ATTRIBUTES = ("namespace", "verb", "group", "version", "resource", "subresource", "name")


def access_review(body: bytes) -> Object:
    """A SelfSubjectAccessReview, of its resource attributes only."""
    review = _fields(_fields(body.removeprefix(_MAGIC))[_RAW])
    attributes = _fields(_fields(review[2]).get(1, b""))
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "metadata": {},
        "spec": {
            "resourceAttributes": {
                name: attributes[number].decode()
                for number, name in enumerate(_ATTRIBUTES, 1)
                if attributes.get(number)
            }
        },
    }


def _fields(message: bytes) -> dict[int, bytes]:
    """The fields of a message that have a length: strings and messages, by number."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == 2:
            length, at = _varint(message, at)
            found[tag >> 3] = message[at : at + length]
            at += length
        else:
            _, at = _varint(message, at)
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            return value, at
