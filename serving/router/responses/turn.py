"""A request to /v1/responses as far as storing is concerned."""

import uuid
from dataclasses import dataclass, field
from typing import Any

from serving.router.responses import errors

TOO_LARGE = "the response is too large to be stored"
NOT_STORED = "the response could not be stored"
"""Warnings for the client."""

_ADVICE = {
    "background": "leave it out, and stream long answers",
    "previous_response_id": "send the earlier turns in input",
}
"""What to do instead where responses are not stored."""


@dataclass(eq=False, slots=True)
class Turn:
    """One request, and what becomes of its answer."""

    tenant: str
    raw: bytes
    """The body as the client sent it, but for items that it only referred to."""
    stores: bool
    """Whether the answer is kept."""
    previous_id: str | None = None
    background: bool = False
    streams: bool = False
    response_id: str | None = None
    """The id of a response in the background, which it has before an engine answers."""
    echoed: dict[str, Any] = field(default_factory=dict)
    """Fields that were taken out of the body, and that an engine of ours repeats in its answer."""
    warning: str | None = None

    @property
    def engine_request_id(self) -> str | None:
        """The request id that has an engine give its answer, and the items in it, the
        `response_id`."""
        return None if self.response_id is None else self.response_id.removeprefix("resp_")


def turn_of(tenant: str, raw: bytes, body: dict[str, Any]) -> Turn:
    """Takes the fields that the router serves out of `body`, which is `raw` decoded. Raises
    ApiError 400."""
    stores = _flag(body, "store", True)
    previous_id = body.get("previous_response_id")
    if previous_id is not None and not isinstance(previous_id, str):
        raise errors.wrong_type("previous_response_id", "the id of a response")
    background = _flag(body, "background", False)
    if background and not stores:
        raise errors.background_needs_store()
    turn = Turn(tenant, raw, stores, previous_id, background, bool(body.get("stream")))
    if background:
        turn.response_id = f"resp_{uuid.uuid4().hex}"
    if previous_id is not None:
        turn.echoed["previous_response_id"] = body.pop("previous_response_id")
    if background:
        turn.echoed["background"] = body.pop("background")
    return turn


def refuse_stored(body: dict[str, Any]) -> None:
    """Raises ApiError 400 for a request that needs stored responses, where none are stored."""
    for name, advice in _ADVICE.items():
        if body.get(name) not in (None, False):
            raise errors.nothing_stored(name, advice)


def _flag(body: dict[str, Any], name: str, default: bool) -> bool:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise errors.wrong_type(name, "true or false")
    return value
