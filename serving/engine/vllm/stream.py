"""Sends an answer as a stream of events, from its beginning or from where another engine was."""

from collections.abc import Callable
from contextlib import aclosing

from starlette.types import Send

from serving.answers.events import End, Usage
from serving.asgi import Headers
from serving.encoders.encoder import Encoder
from serving.engine.resumption import CannotContinueError, Continuation, comment
from serving.engine.vllm.failures import failure_of
from serving.engine.vllm.generation import Generation
from serving.engine_protocol import CACHED_TOKENS, LAST, PROMPT_TOKENS

_EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")


class Stream:
    """The stream of one answer. Its head is sent with the first tokens that are new."""

    def __init__(
        self,
        generation: Generation,
        encoder: Encoder,
        continuation: Continuation,
        headers: Headers,
        is_dead: Callable[[], bool],
        on_end: Callable[[End], object],
    ) -> None:
        """`is_dead` returns whether the engine is, whose errors are then raised rather than told.
        `on_end` is called when a choice ends here."""
        self._generation = generation
        self._encoder = encoder
        self._continuation = continuation
        self._comments = continuation.comments(
            generation.choices,
            generation.vocabulary.ids,
            () if generation.request.needs_prompt else encoder.told_by,
        )
        self._headers = headers
        self._is_dead = is_dead
        self._on_end = on_end

    async def send(self, send: Send) -> None:
        """Sends the stream. Before its head, and of an engine that is dead, errors are raised."""
        generation, encoder, comments = self._generation, self._encoder, self._comments
        begun = False
        undelivered = self._continuation.undelivered()
        lacked = undelivered.of(self._replayed())
        try:
            async with aclosing(generation.steps()) as steps:
                async for index, step, output in steps:
                    if not (begun or self._continuation.steps):
                        lacked = undelivered.of(encoder.begin())
                    piece = encoder.step(index, step)
                    if comments is not None:
                        piece = comments.before(piece, index, step, output)
                    if not begun:
                        undelivered.goes_on()
                        begun = True
                        await send(self._head())
                        piece = lacked + piece
                    if step.end is not None:
                        self._on_end(step.end)
                    if piece:
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
            last = encoder.finish()
            if not begun:  # no token was left to generate
                last = lacked + undelivered.of(last, [LAST])
                await send(self._head())
            elif comments is not None:
                last = comments.last(last)
        except Exception as error:
            if not begun or self._is_dead():
                raise
            failure = failure_of(error)
            last = encoder.error(failure.message, failure.status)
            if comments is not None:
                last = comment(last)
        await send({"type": "http.response.body", "body": last})

    def _replayed(self) -> bytes:
        """Returns the stream of what was delivered, written anew. Raises CannotContinueError."""
        generation, encoder, continuation = self._generation, self._encoder, self._continuation
        pieces: list[bytes] = []
        if not continuation.steps:
            return b""
        try:
            for index, step in generation.replay(continuation.steps, continuation.cached_tokens):
                if not pieces:
                    pieces.append(encoder.begin())
                pieces.append(encoder.step(index, step))
        except LookupError as error:
            raise CannotContinueError("the delivered tokens are not this model's") from error
        return b"".join(pieces)

    def _head(self) -> dict[str, object]:
        known = count_headers(self._generation.usage) if self._generation.knows_prompts else []
        headers = [_EVENT_STREAM, *known, *self._headers]
        return {"type": "http.response.start", "status": 200, "headers": headers}


def count_headers(usage: Usage) -> Headers:
    """Returns the headers that tell how long the prompts are."""
    return [
        (PROMPT_TOKENS, b"%d" % usage.prompt_tokens),
        (CACHED_TOKENS, b"%d" % usage.cached_tokens),
    ]
