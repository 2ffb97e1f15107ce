"""A service that answers chat completions from a script, and can stop and start again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.http_server import BackgroundServer, Request, answering, response


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes | None = None
    """A chat completion, or an error object in OpenAI's format; a default one if None."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self, prompt: str) -> bytes:
        body = completion(prompt) if self.status == 200 else error(f"status {self.status}")
        headers = {"x-request-id": f"req-{prompt}"} | dict(self.headers)
        return response(body if self.body is None else self.body, self.status, headers)


BREAK = Reply(status=0)
"""Resets the connection instead of an answer."""
HOLD = Reply(status=-1)
"""Leaves the request unanswered while the service lives."""

Script = Mapping[str, Sequence[Reply]]
"""The replies to each prompt, one per try; afterwards, and for other prompts, a completion."""


def completion(prompt: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": prompt.upper()}}
    usage = {"prompt_tokens": 3, "completion_tokens": 5}
    return json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode()


def error(message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": "invalid_request_error"}}).encode()


class ScriptedService(BackgroundServer):
    """`asked` has the prompts in the order of arrival, `keys` their credentials."""

    def __init__(
        self, script: Script | None = None, models: Reply | None = None, port: int = 0
    ) -> None:
        """`models` is the reply to any GET; without `port` a free one is used."""
        super().__init__(answering(self._answer), port)
        self.script = script or {}
        self.models = models or Reply(body=b'{"data": []}')
        self.asked: list[str] = []
        self.keys: set[str] = set()

    def _answer(self, request: Request) -> bytes | None:
        if key := request.header(b"authorization"):
            self.keys.add(key.decode())
        if request.method == b"GET":
            return self.models.encode("")
        prompt = json.loads(request.body)["messages"][0]["content"]
        self.asked.append(prompt)
        replies = self.script.get(prompt, ())
        tries = self.asked.count(prompt)
        reply = replies[tries - 1] if tries <= len(replies) else Reply()
        if reply is HOLD:
            return b""
        return None if reply is BREAK else reply.encode(prompt)


def request_line(custom_id: str, **fields: Any) -> bytes:
    """Returns a line of a batch's input whose prompt is its custom_id."""
    body = {"model": "small", "messages": [{"role": "user", "content": custom_id}]}
    line = {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": body,
    }
    return json.dumps(line | fields).encode() + b"\n"
