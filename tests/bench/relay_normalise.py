"""What reading and normalising a request costs: CPU time in microseconds per request.

`python -m tests.bench.relay_normalise` takes the least of many repetitions of each step in this
process, so that other load hardly shows: `router` is what the router does with a request to our own
engines, `unchanged` with one to a backend that takes it as it is, `rewritten` with one that has
tool call ids of another service and a limit above the context. `engine` is our engine's reading of
the latter.
"""

import datetime
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from serving.mistral import ModelRules
from serving.requests import chat
from serving.router.proxy.request import decode, engine_request, routing_fields
from serving.router.replicas.backend import Backend
from serving.router.replicas.model import Model

RULES = ModelRules("bench", "v11", context_tokens=131072, image_limit=10)
ENGINE = Model("bench", rules=RULES)
BACKEND = Model(
    "bench",
    rules=replace(RULES, other_server=True),
    backend=Backend("http://other.test/v1", "bench", RULES.context_tokens),
)
TODAY = datetime.date(2026, 3, 1)
REPETITIONS = 300


def conversation(text_bytes: int, messages: int, tools: int, tool_id: str) -> dict[str, Any]:
    """A chat of that many messages with that much text in all; every fourth message is a tool's
    result."""
    text = ("The quick brown fox jumps over it.\n" * (text_bytes // messages // 35 + 1))[
        : text_bytes // messages
    ]
    call = {"id": tool_id, "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    turns = [
        {"role": "user", "content": text},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": tool_id, "content": text},
        {"role": "assistant", "content": text},
    ]
    properties = {name: {"type": "string", "description": "x" * 60} for name in ("a", "b", "c")}
    parameters = {"type": "object", "properties": properties, "required": ["a"]}
    function = {"name": "f", "description": "y" * 100, "parameters": parameters}
    body: dict[str, Any] = {
        "model": "bench",
        "messages": [turns[i % 4] for i in range(messages)],
        "temperature": 0.15,
        "max_tokens": 131072,
    }
    if tools:
        body["tools"] = [{"type": "function", "function": function}] * tools
    return body


CASES = {
    "1 kB, 1 message": (900, 1, 0),
    "20 kB, 20 messages, 8 tools": (14_000, 20, 8),
    "220 kB, 1 message": (220_000, 1, 0),
    "220 kB, 20 messages, 8 tools": (215_000, 20, 8),
}


def microseconds(step: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(REPETITIONS):
        began = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - began)
    return 1e6 * best


def through(raw: bytes, model: Model) -> bytes:
    body = decode(raw)
    routing_fields(body)
    return engine_request(chat.PATH, raw, body, model).body


def main() -> None:
    table = Table("request", "bytes", "router µs", "unchanged µs", "rewritten µs", "engine µs")
    for name, (text_bytes, messages, tools) in CASES.items():
        plain = json.dumps(conversation(text_bytes, messages, tools, "abcdefghi")).encode()
        foreign = conversation(text_bytes, messages, tools, "call_8Yx2LmN4pQrStUvW")
        other = json.dumps(foreign | {"max_tokens": 200_000}).encode()
        assert through(plain, BACKEND) is plain and through(other, BACKEND) != other
        assert through(other, ENGINE) is other
        figures = (
            microseconds(partial(through, other, ENGINE)),
            microseconds(partial(through, plain, BACKEND)),
            microseconds(partial(through, other, BACKEND)),
            microseconds(partial(chat.read, other, RULES, TODAY)),
        )
        table.add_row(name, str(len(other)), *(f"{figure:.1f}" for figure in figures))
    Console().print(table)


if __name__ == "__main__":
    main()
