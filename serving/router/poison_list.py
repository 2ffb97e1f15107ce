"""The list of requests that end engines, as operators see it."""

import msgspec

from serving.poison import Reason

PATH = "/-/poison"


class GuiltyRequest(msgspec.Struct):
    """A request that is refused, as it ends engines."""

    digest: str
    """The HMAC of the request; nothing of it can be read from that."""
    model: str
    reason: Reason
    judged_s_ago: float
    expires_in_s: float


class PoisonList(msgspec.Struct):
    """The answer to `GET /-/poison`."""

    guilty: list[GuiltyRequest]
    waiting: int
    """The requests that wait at this router, as suspects of an engine's death."""
