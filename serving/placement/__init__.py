"""Which replica a request goes to. Pure: no I/O, no clock, no Ray."""

from serving.placement.least_tokens import least_tokens
from serving.placement.load import ReplicaLoad

__all__ = ["ReplicaLoad", "least_tokens"]
