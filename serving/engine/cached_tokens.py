"""How many tokens of a prompt the engine had cached, told in a header of the answer."""

from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Any, Receive, Send], Awaitable[None]]

HEADER = b"x-cached-tokens"

_of_this_request: ContextVar[list[int]] = ContextVar("cached_tokens")


def note(cached_tokens: int) -> None:
    """Called where a prompt has been read; of each prompt, if the request has several."""
    noted = _of_this_request.get(None)
    if noted is not None:
        noted.append(cached_tokens)


class CachedTokensHeader:
    """An ASGI application around the engine's. The head of an answer waits for its first bytes:
    only then the engine knows.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        noted: list[int] = []
        _of_this_request.set(noted)
        head: Message | None = None

        async def send_with_header(message: Message) -> None:
            nonlocal head
            if message["type"] == "http.response.start":
                head = message
                return
            if head is not None:
                if noted:
                    head["headers"] = [*head["headers"], (HEADER, b"%d" % sum(noted))]
                await send(head)
                head = None
            await send(message)

        await self._app(scope, receive, send_with_header)
