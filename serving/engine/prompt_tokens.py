"""Reports how many tokens a request's prompts have, and how many the engine had cached, in response
headers."""

from contextvars import ContextVar
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.engine_protocol import CACHED_TOKENS, PROMPT_TOKENS


@dataclass(slots=True)
class _Tally:
    prompts: int = 0
    read: int = 0
    tokens: int = 0
    cached_tokens: int = 0


_of_this_request: ContextVar[_Tally | None] = ContextVar("prompt_tokens", default=None)


def note_prompt() -> None:
    """Called when the engine is given a prompt; once for each, if the request has several."""
    if (tally := _of_this_request.get()) is not None:
        tally.prompts += 1


def note(tokens: int, cached_tokens: int) -> None:
    """Called once per prompt, when the engine has prefilled it."""
    if (tally := _of_this_request.get()) is not None:
        tally.read += 1
        tally.tokens += tokens
        tally.cached_tokens += cached_tokens


class PromptTokensHeaders:
    """ASGI middleware around the engine's application. It holds the response head until the first
    bytes of the body, as the engine knows the counts only then. A stream that begins before all
    prompts were prefilled gets neither header."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tally = _Tally()
        _of_this_request.set(tally)
        head: Message | None = None

        async def send_with_header(message: Message) -> None:
            nonlocal head
            if message["type"] == "http.response.start":
                head = message
                return
            if head is not None:
                if tally.read == tally.prompts > 0:
                    head["headers"] = [
                        *head["headers"],
                        (PROMPT_TOKENS, b"%d" % tally.tokens),
                        (CACHED_TOKENS, b"%d" % tally.cached_tokens),
                    ]
                await send(head)
                head = None
            await send(message)

        try:
            await self._app(scope, receive, send_with_header)
        finally:
            if head is not None:
                # The engine failed. The client must see a broken answer, not a complete one.
                await send(head)
