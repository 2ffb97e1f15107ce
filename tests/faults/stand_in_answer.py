"""The answers of the stand-in for vLLM: the same tokens for a prompt, wherever it is asked."""

import json
from collections.abc import Mapping
from typing import Any
from zlib import crc32

from serving.asgi import Headers
from serving.engine.resumption import Continuation
from serving.ledger.tokens import Tokens

PROMPT_TOKENS = 10


def word(prompt: str, n: int) -> str:
    """The n-th token of the answer to a prompt."""
    return f" {crc32(f'{prompt} {n}'.encode()):x}"


class Answer:
    """The answer to a request, or the continuation of one."""

    trained_for = ""

    def __init__(
        self, request: Mapping[str, Any], request_id: str, continuation: Continuation
    ) -> None:
        self.continuation = continuation
        self.headers: Headers = []
        self.generated = 0
        self.begin = sum(
            1 if isinstance(step.tokens, str) else len(step.tokens) for step in continuation.steps
        )
        self.end = request.get("max_tokens") or 16
        self._wants_usage = (request.get("stream_options") or {}).get("include_usage")
        self._prompt = json.dumps(request["messages"][-1]["content"])
        self.head = {
            "id": f"chatcmpl-{request_id}",
            "object": "chat.completion.chunk" if request.get("stream") else "chat.completion",
            "created": continuation.mark.created,
            "model": request["model"],
        }

    def counts(self) -> Tokens:
        read = PROMPT_TOKENS + self.begin if self.generated else 0
        return Tokens(read, 0, self.generated, read, self.generated)

    @property
    def usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": self.end,
            "total_tokens": PROMPT_TOKENS + self.end,
        }

    def text(self, begin: int, end: int) -> str:
        prompt = f"{self.trained_for}{self._prompt}"
        return "".join(word(prompt, n) for n in range(begin, end))

    @property
    def ids(self) -> dict[str, int]:
        return {self.text(n, n + 1): n for n in range(self.end)}

    def events(self, n: int) -> bytes:
        """Returns the events that the n-th token adds to the stream."""
        delta = {"content": self.text(n, n + 1)}
        if n < self.end - 1:
            return self.event(delta)
        usage = {"usage": self.usage} if self._wants_usage is None else {}
        return self.event(delta, "length", **usage)

    def last_events(self) -> bytes:
        usage = _written(self.head | {"choices": [], "usage": self.usage})
        return (usage if self._wants_usage else b"") + b"data: [DONE]\n\n"

    def event(self, delta: dict[str, str], finish_reason: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _written(self.head | {"choices": [choice]} | more)


def _written(event: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"
