"""Requests to the engine's front end over a stand-in for vLLM's engine."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import httpx

from serving.catalogue import LoopGuard
from serving.engine.vllm.front_end import FrontEnd
from serving.mistral import ModelRules
from tests.engine.fake_llm import FakeLlm
from tests.support.reading import RULES

NAMES = ["the-model", "alias"]

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"

BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "Hi"}]},
    COMPLETIONS: {"prompt": "Hi"},
    RESPONSES: {"input": "Hi"},
    MESSAGES: {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50},
}
"""The least request of each API."""
OPENAI = [path for path in BODIES if path != MESSAGES]
"""The APIs with the envelope of OpenAI's errors."""


async def asked(
    engine: FakeLlm,
    path: str,
    method: str = "POST",
    headers: dict[str, str] | None = None,
    guard: LoopGuard | None = None,
    rules: ModelRules = RULES,
    content: bytes | None = None,
    **fields: Any,
) -> httpx.Response:
    """Returns the answer to a request of these fields, beside the least for that path."""
    app = FrontEnd(engine, NAMES, rules, guard)
    if method == "POST" and content is None:
        content = json.dumps(BODIES.get(path, {}) | fields).encode()
    async with (
        asyncio.timeout(60),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://engine", verify=False
        ) as http,
    ):
        try:
            return await http.request(method, path, content=content, headers=headers)
        finally:
            await app.close()


def error_of(response: httpx.Response) -> tuple[int, str, Any, Any]:
    """Returns status, type, param and code of an error after checking its envelope."""
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return response.status_code, error["type"], error["param"], error["code"]


def events_of(stream: str) -> list[dict[str, Any]]:
    """Returns the data of a stream's events, without [DONE]."""
    lines = [line.removeprefix("data: ") for line in stream.split("\n") if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


@dataclass
class Exchange:
    """One request to an ASGI application, whose client goes away when `leave` is called."""

    path: str
    fields: dict[str, Any] = field(default_factory=dict)
    sent: list[Any] = field(default_factory=list)
    _leaves: asyncio.Event = field(default_factory=asyncio.Event)
    _asked: bool = False

    @property
    def scope(self) -> dict[str, Any]:
        return {"type": "http", "method": "POST", "path": self.path, "headers": []}

    def leave(self) -> None:
        self._leaves.set()

    async def receive(self) -> Any:
        if not self._asked:
            self._asked = True
            body = json.dumps(BODIES[self.path] | self.fields).encode()
            return {"type": "http.request", "body": body, "more_body": False}
        await self._leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def body(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent).decode()

    @property
    def ended(self) -> bool:
        return bool(self.sent) and not self.sent[-1].get("more_body", True)
