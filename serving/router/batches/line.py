"""How the relay knows that a request is a line of a batch."""

from dataclasses import dataclass

from serving.tenants import Caller

SCOPE_KEY = "mistral_serve.batch"
"""The key of a `BatchLine` in an ASGI scope. Only the router itself can put one there."""


@dataclass(frozen=True, slots=True)
class BatchLine:
    """What the relay is to know of such a request."""

    caller: Caller
    """Who created the batch, with what its key might do then."""
    batch_id: str
