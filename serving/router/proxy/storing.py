"""Has the answers to /v1/responses stored."""

from dataclasses import replace

from serving.router.http.asgi import Headers, send_response
from serving.router.proxy.exchange import Exchange
from serving.router.proxy.request import warn
from serving.router.responses.responses import Responses


async def detach(exchange: Exchange, responses: Responses) -> None:
    """Answers the client that the response is queued, and puts a run in the background in its
    place. Raises ApiError."""
    assert exchange.turn is not None
    run = await responses.begin(exchange.turn, exchange.served.model.model_id)
    exchange.run = run
    body = run.body_of_response()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *exchange.headers,
    ]
    await send_response(exchange.send, 200, headers, body)
    exchange.receive, exchange.send = run.receive, run.send
    exchange.demand = replace(exchange.demand, timeout_s=None)  # no one waits


async def keep_whole(
    exchange: Exchange, responses: Responses, body: bytes, headers: Headers
) -> None:
    """Stores a whole answer before it is sent, so that the client can continue it at once. Adds a
    warning to `headers` if it cannot be stored."""
    if exchange.turn is not None and exchange.run is None:
        warning = await responses.answered(exchange.turn, body)
        if warning is not None:
            warn(headers, warning)
