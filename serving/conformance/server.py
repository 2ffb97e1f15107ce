"""The server under test, as an HTTP client sees it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from .answer import Answer, join, parsed, read
from .cases import body_of
from .events import DONE, Event, events
from .expect import CheckFailed, expect
from .model import Model

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
_CONNECT_TIMEOUT_S = 10


class Server:
    """Sends requests to a model, and fails the check on an answer of the wrong shape. `http` has
    the base URL and, if there is an `api_key`, the header for it. `tokenizer` is the path of the
    model's tekken.json or of its folder."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        model: Model,
        api_key: str | None = None,
        tokenizer: str | None = None,
    ) -> None:
        self.http = http
        self.model = model
        self.api_key = api_key
        self.tokenizer = tokenizer
        self._answers: dict[str, Answer] = {}

    def body(self, case: str) -> dict[str, Any]:
        """The body of a case's chat request, greedy unless the case says otherwise."""
        return {"temperature": 0, **body_of(case, self.model)}

    async def answer(self, case: str) -> Answer:
        """The unstreamed answer to a case, which is requested once for all checks."""
        if case not in self._answers:
            self._answers[case] = await self.chat(self.body(case))
        return self._answers[case]

    async def chat(self, body: dict[str, Any]) -> Answer:
        """The unstreamed answer to a chat request, which must be a 200."""
        response = await self.post(CHAT, body)
        return read(ok(response), response.headers)

    async def stream(self, body: dict[str, Any]) -> Answer:
        """The answer to a streamed chat request, with its chunks joined."""
        options = {"stream": True, "stream_options": {"include_usage": True}}
        async with self.events(CHAT, {**body, **options}) as (stream, headers):
            received = [event async for event in stream]
        expect(received and received[-1].data == DONE, f"the stream does not end with {DONE}")
        return join([event.json() for event in received[:-1]], headers)

    async def refusal(self, body: dict[str, Any], status: int = 400, path: str = CHAT) -> str:
        """The message of the error, in OpenAI's shape, that a request must get."""
        return refused(await self.post(path, body), status)

    async def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return await self.http.post(path, json={"model": self.model.id, **body})

    @asynccontextmanager
    async def events(
        self, path: str, body: dict[str, Any]
    ) -> AsyncIterator[tuple[AsyncIterator[Event], httpx.Headers]]:
        """The events of a streamed answer, which must be a 200, and its headers."""
        body = {"model": self.model.id, **body}
        async with self.http.stream("POST", path, json=body) as response:
            if response.status_code != 200:
                await response.aread()
                ok(response)
            kind = response.headers.get("content-type", "")
            expect(kind.startswith("text/event-stream"), f"a stream of type {kind!r}")
            yield events(response.aiter_bytes()), response.headers


def ok(response: httpx.Response) -> Any:
    """The JSON of a response. Fails the check unless it is a 200."""
    expect(response.status_code == 200, f"{response.status_code}: {shown(response)}")
    return parsed(response.text, "the body")


def refused(response: httpx.Response, status: int) -> str:
    """The message of an error in OpenAI's shape. Fails the check on any other response."""
    return str(parsed_error(response, status)["message"])


def parsed_error(response: httpx.Response, status: int) -> dict[str, Any]:
    """An error in OpenAI's shape. Fails the check on any other response."""
    expect(
        response.status_code == status,
        f"{response.status_code} instead of {status}: {shown(response)}",
    )
    body = parsed(response.text, "the error")
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        raise CheckFailed(f"an error without OpenAI's `error` object: {shown(response)}")
    expect({"message", "type", "param", "code"} <= set(error), f"fields are missing: {error}")
    message = error["message"]
    expect(isinstance(message, str) and message, f"the error has no message: {error}")
    expect("Traceback" not in message, f"the error shows a stack trace: {message[:200]}")
    return error


def shown(response: httpx.Response) -> str:
    """The beginning of a response, for reports."""
    text = " ".join(response.text.split())
    return text if len(text) <= 300 else text[:300] + "…"


def new_client(url: str, api_key: str | None) -> httpx.AsyncClient:
    """A client of the server at `url`, with or without the `/v1` that OpenAI's clients add."""
    # The checks' time limits bound every wait. Each request has a connection of its own: one that a
    # server closes after an error fails no later check.
    timeout = httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S)
    limits = httpx.Limits(max_keepalive_connections=0)
    base = url.rstrip("/").removesuffix("/v1")
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    return httpx.AsyncClient(base_url=base, headers=headers, timeout=timeout, limits=limits)
