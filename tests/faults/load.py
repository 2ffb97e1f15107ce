"""Clients that send requests without pause, and the outcome of each answer.

Imports nothing of this project: tests/real_cluster runs it in a pod, where there is no more of it.
"""

import asyncio
import itertools
import json
import time
from dataclasses import dataclass, field
from typing import Any, Literal

import httptools

HOST = "127.0.0.1"
_DONE = "[DONE]"
_TRY_AGAIN_S = 0.1

Verdict = Literal["good", "dropped", "truncated", "broken", "refused"]


@dataclass(frozen=True)
class Question:
    """The request of a client. Its answer is the same each time."""

    prompt: str
    max_tokens: int
    stream: bool = True
    ignore_eos: bool = False
    once: bool = False
    """Whether the client stops after the first answer."""

    def body(self, model: str) -> bytes:
        fields: dict[str, Any] = {
            "model": model,
            "messages": [{"role": "user", "content": self.prompt}],
            "max_tokens": self.max_tokens,
            "temperature": 0,
        }
        if self.ignore_eos:
            fields["ignore_eos"] = True
        if self.stream:
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
        return json.dumps(fields).encode()


@dataclass
class Answer:
    """An answer as far as it arrived."""

    question: Question
    client_port: int = 0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""
    finish_reason: str | None = None
    usage: tuple[int, int] | None = None
    """Tokens of the prompt and of the answer."""
    error: str = ""
    """The type of the error event, or of the exception that ended it."""
    refusal: str = ""
    """The body of an answer that is an error, or the event of one."""
    ends: int = 0
    """Number of [DONE] events."""
    whole: bool = False
    """Whether HTTP's end of the message arrived."""
    began_s: float = 0.0
    chunks_s: list[float] = field(default_factory=list)
    """Monotonic times at which a stream's chunks with text arrived."""
    ended_s: float = 0.0
    ids: set[Any] = field(default_factory=set)

    @property
    def said(self) -> tuple[str, str | None, tuple[int, int] | None]:
        return self.text, self.finish_reason, self.usage

    @property
    def longest_gap_s(self) -> float:
        return _longest(self.chunks_s)

    @property
    def longest_silence_s(self) -> float:
        """The longest time without text, from the request on."""
        return _longest([self.began_s, *self.chunks_s, self.ended_s])

    def read(self, body: bytes) -> None:
        """Takes in a whole answer that is not a stream."""
        if self.status == 200:
            self._event(json.loads(body))
            self.ends = 1
        else:
            self.refusal = body.decode()

    def event(self, data: str) -> None:
        if data == _DONE:
            self.ends += 1
            return
        event = json.loads(data)
        if "error" in event:
            self.error = str(event["error"].get("type"))
            self.refusal = data
            return
        self.ids.add((event["id"], event["created"]))
        self._event(event)

    def _event(self, event: dict[str, Any]) -> None:
        if usage := event.get("usage"):
            self.usage = usage["prompt_tokens"], usage["completion_tokens"]
        for choice in event["choices"]:
            said = choice["delta"] if "delta" in choice else choice["message"]
            text = said.get("content") or ""
            self.text += text
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            if text:
                self.chunks_s.append(time.monotonic())

    def verdict(self, undisturbed: "Answer") -> Verdict:
        """The outcome. `refused` is an honest 429, `broken` ends visibly, `truncated` looks whole
        and is not."""
        if self.status == 429 and self.headers.get("retry-after", "").isdigit():
            return "refused"
        looks_whole = self.whole and self.ends == 1 and not self.error
        if looks_whole and self.said == undisturbed.said and len(self.ids) <= 1:
            return "good"
        if looks_whole:
            return "truncated"
        return "broken" if self.chunks_s or self.error == "stream_broken" else "dropped"


def _longest(times_s: list[float]) -> float:
    return max((b - a for a, b in itertools.pairwise(times_s)), default=0.0)


class Connection(asyncio.Protocol):
    """A client's connection, which it keeps as long as the server does."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.reusable = False
        self._parser: Any = None
        self._answer: Answer
        self._data = b""
        self._end: asyncio.Future[None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        if self._parser is not None and not self._end.done():
            self._end.set_exception(exc or ConnectionError("closed"))

    async def ask(self, answer: Answer, body: bytes) -> None:
        """Sends the request and returns at the end of the answer. Raises OSError."""
        self.reusable = False
        self._answer, self._data = answer, b""
        self._parser = httptools.HttpResponseParser(self)
        self._end = asyncio.get_running_loop().create_future()
        answer.client_port = self.transport.get_extra_info("sockname")[1]
        self.transport.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: router\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        await self._end

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._data += body
        if self._answer.headers.get("content-type", "").startswith("text/event-stream"):
            *events, self._data = self._data.split(b"\n\n")
            for event in events:
                if not event.startswith(b":"):  # a comment while the stream waits
                    self._answer.event(event.decode().removeprefix("data: "))

    def on_message_complete(self) -> None:
        self._answer.whole = True
        if self._data:
            self._answer.read(self._data)
        closes = self._answer.headers.get("connection") == "close"
        self.reusable = not closes and not self.transport.is_closing()
        if closes:
            self.transport.close()
        if not self._end.done():
            self._end.set_result(None)


class Load:
    """Clients of one model at a port, of this machine by default. Each asks its own question again
    and again until `stop`, and then until it has the answer to the last. While nothing listens at
    the port a client tries to connect for `patience_s`.
    """

    def __init__(
        self,
        port: int,
        model: str,
        answers: list[Answer] | None = None,
        *,
        host: str = HOST,
        patience_s: float = 0,
    ) -> None:
        """`answers` is where the answers are added."""
        self.answers = [] if answers is None else answers
        self._port = port
        self._model = model
        self._host = host
        self._patience_s = patience_s
        self._stopping = False
        self._clients: list[asyncio.Task[None]] = []

    def start(self, questions: list[Question]) -> None:
        self._clients += [asyncio.create_task(self._client(q)) for q in questions]

    async def stop(self, timeout_s: float) -> None:
        """Stops all clients. Raises TimeoutError if an answer does not end within the time."""
        self._stopping = True
        async with asyncio.timeout(timeout_s):
            await asyncio.gather(*self._clients)

    async def ask(self, question: Question) -> Answer:
        """Sends one request, on a connection of its own."""
        _, answer = await self._ask(question, None)
        return answer

    async def _client(self, question: Question) -> None:
        connection: Connection | None = None
        while not self._stopping:
            connection, answer = await self._ask(question, connection)
            if question.once:
                break
            if not answer.whole:
                await asyncio.sleep(0.05)  # as a client that backs off

    async def _ask(
        self, question: Question, connection: Connection | None
    ) -> tuple[Connection | None, Answer]:
        answer = Answer(question, began_s=time.monotonic())
        self.answers.append(answer)
        try:
            if connection is None or not connection.reusable:
                connection = await self._connect(answer.began_s + self._patience_s)
            await connection.ask(answer, question.body(self._model))
        except (OSError, httptools.HttpParserError) as error:
            answer.error = type(error).__name__
        answer.ended_s = time.monotonic()
        return connection, answer

    async def _connect(self, deadline_s: float) -> Connection:
        loop = asyncio.get_running_loop()
        while True:
            try:
                _, connection = await loop.create_connection(Connection, self._host, self._port)
            except OSError:
                if time.monotonic() >= deadline_s:
                    raise
                await asyncio.sleep(_TRY_AGAIN_S)
            else:
                return connection

    @property
    def in_flight(self) -> list[Answer]:
        return [answer for answer in self.answers if not answer.ended_s]
