"""What makes two requests the same to an engine."""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import msgspec

_BYTES = 16
_NOT_COMPUTED_WITH = frozenset(
    (
        "model",
        "stream",
        "stream_options",
        "user",
        "metadata",
        "safety_identifier",
        "service_tier",
        "prompt_cache_key",
        "store",
        "background",
        "priority",
        "request_id",
    )
)
"""Fields that change how an answer is delivered or booked, and not what an engine computes."""

_encode = msgspec.json.Encoder(order="sorted").encode


class Digests:
    """Computes keyed digests of requests, so that a list of them tells nothing about a prompt to
    one who guesses it."""

    def __init__(self, secret: str) -> None:
        """`secret` is the cluster's, so that all routers compute the same."""
        self._key = hashlib.sha256(b"mistral-serve/poison/" + secret.encode()).digest()

    def of(self, model_id: str, path: str, body: Mapping[str, Any]) -> bytes:
        """Returns the HMAC of a request to `path`, images included. Fields that do not reach the
        model, fields that are null, the order of fields and white space make no difference."""
        fields = {
            name: value
            for name, value in body.items()
            if value is not None and name not in _NOT_COMPUTED_WITH
        }
        try:
            text = _encode([model_id, path, fields])
        except UnicodeEncodeError:  # a lone surrogate
            text = repr([model_id, path, sorted(fields.items())]).encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, text, "sha256")[:_BYTES]
