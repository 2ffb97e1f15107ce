"""The endpoints of stored responses."""

from typing import Annotated

from fastapi import Depends, FastAPI, Response

from serving.router.http.authentication import Authentication
from serving.router.http.errors import wrong_value
from serving.router.http.openapi import Order, limit_of, whole_number
from serving.router.responses import errors, objects
from serving.router.responses.items import page
from serving.router.responses.responses import PATH, Responses
from serving.router.responses.streaming import EventsResponse

_MOST_ITEMS = 100


def add_endpoints(api: FastAPI, responses: Responses, authentication: Authentication) -> None:
    FromTenant = Annotated[str, Depends(authentication.tenant)]

    @api.get(PATH + "/{response_id}")
    async def get_response(
        of: FromTenant, response_id: str, stream: str = "false", starting_after: str = "-1"
    ) -> Response:
        """Returns a stored response, or streams the events of one behind that number."""
        if stream.lower() in ("false", "0"):
            return _json((await responses.get(of, response_id)).response)
        if stream.lower() not in ("true", "1"):
            raise wrong_value("stream", "true or false")
        if starting_after != "-1" and not (starting_after.isdecimal() and len(starting_after) < 10):
            raise wrong_value("starting_after", "the sequence number of an event")
        first = int(starting_after) + 1
        return EventsResponse(await responses.runs.follow(of, response_id, first))

    @api.delete(PATH + "/{response_id}")
    async def delete_response(of: FromTenant, response_id: str) -> Response:
        """Deletes a stored response."""
        await responses.delete(of, response_id)
        deleted = {"id": response_id, "object": "response", "deleted": True}
        return _json(objects.encoded(deleted))

    @api.get(PATH + "/{response_id}/input_items")
    async def list_input_items(
        of: FromTenant,
        response_id: str,
        limit: Annotated[str, whole_number(_MOST_ITEMS)] = "20",
        order: Order = "desc",
        after: str | None = None,
    ) -> Response:
        """Lists the input items of a stored response."""
        most = limit_of(limit, _MOST_ITEMS)
        if order not in ("asc", "desc"):
            raise wrong_value("order", "asc or desc")
        items = await responses.items(of, response_id)
        try:
            return _json(objects.encoded(page(items, most, after, order == "desc")))
        except KeyError:
            raise wrong_value("after", "the id of an input item of this response") from None

    @api.post(PATH + "/compact", include_in_schema=False)
    async def compact() -> Response:
        """Says that there is no such endpoint, as the path would pass for a response's."""
        raise errors.not_compacted()

    @api.post(PATH + "/{response_id}/cancel")
    async def cancel_response(of: FromTenant, response_id: str) -> Response:
        """Cancels a response that runs in the background."""
        return _json(await responses.cancel(of, response_id))


def _json(body: bytes) -> Response:
    return Response(body, headers={"content-type": "application/json"})
