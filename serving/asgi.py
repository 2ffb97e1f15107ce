"""What ASGI applications share: their headers, a client that goes away, a response in one piece."""

from starlette.types import Receive, Send

Headers = list[tuple[bytes, bytes]]


def header(headers: Headers, name: bytes) -> bytes | None:
    """Returns the value of the first header of this name."""
    for one, value in headers:
        if one == name:
            return value
    return None


class ClientGoneError(Exception):
    """The client closed its connection before the response was complete."""


async def disconnected(receive: Receive) -> None:
    """Returns when the client has gone; to be called after its request was read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_response(send: Send, status: int, headers: Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
