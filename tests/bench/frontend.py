"""What vLLM spends on a request around the model: time to first token, and CPU of its API server.

`python -m tests.bench.frontend` puts the same requests on an engine's vLLM, on vLLM as the model
card starts it, and on vLLM without its tool parser, all three up at once with a tokenizer of the
real size and a network that costs next to nothing. They take turns in each round and what is
reported are medians over the rounds, so that a noisy neighbour hits all alike. `--without-card`
leaves out the second, so that two cores are enough for the others. Linux only; 8 GB of memory.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

from serving.router.replicas.upstream import ConnectionPool
from tests.bench import frontend_report
from tests.bench.frontend_agent import agent_turn
from tests.bench.frontend_model import write_model
from tests.bench.frontend_process import (
    CARD_FLAGS,
    SMALL_FLAGS,
    TOKEN,
    TOOL_FLAGS,
    client,
    ours,
    plain,
    wait_until_ready,
)
from tests.bench.frontend_report import CARD, NO_PARSER, OURS, Measured, Round
from tests.bench.relay import PATH, ask, in_time
from tests.bench.relay_process import HOST, MODEL, Server

REQUESTS = 12
AT_ONCE = 16
STREAMS = 2
MANY_STREAMS = 64
SHORT_TOKENS, LONG_TOKENS = 20, 220
"""Two lengths of stream: the cost of a token is the difference of their costs."""
RUN_LIMIT_S = 120

_numbers = itertools.count()

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "Get the current weather in a given location",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "The city, e.g. 'San Francisco'"},
                "state": {"type": "string", "description": "The state's two letters, e.g. 'CA'"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "state", "unit"],
        },
    },
}
NEW_TOOLS = "new tools"
"""Tools that the server has not seen: each request names them anew."""

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tools": {"tools": [WEATHER, {**WEATHER, "function": {**WEATHER["function"], "name": "now"}}]},
    NEW_TOOLS: {},
    "agent": agent_turn(),
    "JSON": {"response_format": {"type": "json_object"}},
}


@dataclass(frozen=True, slots=True)
class Target:
    """A server, and the fields that its requests need beyond those of the others."""

    server: Server
    tools: dict[str, Any]

    def body(self, kind: str, tokens: int, stream: bool) -> bytes:
        messages = [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "What is the weather like in Paris this week?"},
        ]
        fields = {"model": MODEL, "messages": messages, "max_tokens": tokens, "stream": stream}
        extra = self.tools if kind == NEW_TOOLS or "tools" in KINDS[kind] else {}
        if kind == NEW_TOOLS:
            name = f"f{next(_numbers)}"
            extra = {
                "tools": [{**WEATHER, "function": {**WEATHER["function"], "name": name}}],
                **extra,
            }
        return json.dumps({**fields, **KINDS[kind], **extra}).encode()


def head_of(body: bytes) -> bytes:
    return (
        f"POST {PATH} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {TOKEN}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode()


async def load(
    target: Target, kind: str, tokens: int, stream: bool, requests: int, at_once: int
) -> tuple[float, float]:
    """Median seconds to an answer's first bytes, and the server's CPU seconds per request."""
    pool = ConnectionPool(HOST, target.server.port, RUN_LIMIT_S)
    waits_s: list[float] = []
    left = requests

    async def one_after_another() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            body = target.body(kind, tokens, stream)
            answer = await ask(pool, head_of(body), body)
            waits_s.append(answer.first_s)

    cpu_s = target.server.own_cpu_s()
    try:
        async with asyncio.timeout(RUN_LIMIT_S), asyncio.TaskGroup() as clients:
            for _ in range(at_once):
                clients.create_task(one_after_another())
    finally:
        pool.close()
    return statistics.median(waits_s), (target.server.own_cpu_s() - cpu_s) / requests


async def run(target: Target, kind: str) -> Round:
    """All requests of a kind on one server."""
    ttft_s, cpu_s = await load(target, kind, 1, False, REQUESTS, at_once=1)
    busy_ttft_s, _ = await load(target, kind, 1, False, 2 * AT_ONCE, at_once=AT_ONCE)
    token_s = await token_cpu_s(target, kind, STREAMS, 1)
    busy_token_s = await token_cpu_s(target, kind, MANY_STREAMS, MANY_STREAMS)
    return Round(ttft_s, busy_ttft_s, cpu_s, token_s, busy_token_s)


async def token_cpu_s(target: Target, kind: str, streams: int, at_once: int) -> float:
    """CPU seconds for each further token of a stream."""
    _, short_s = await load(target, kind, SHORT_TOKENS, True, streams, at_once)
    _, long_s = await load(target, kind, LONG_TOKENS, True, streams, at_once)
    return (long_s - short_s) / (LONG_TOKENS - SHORT_TOKENS)


async def measure(targets: Mapping[str, Target], rounds: int, limit_s: float) -> Measured:
    measured: Measured = {kind: {name: [] for name in targets} for kind in KINDS}
    for _ in in_time(rounds, limit_s):
        for kind, of_kind in measured.items():
            for name, target in targets.items():
                of_kind[name].append(await run(target, kind))
    return measured


def first_answers(targets: Mapping[str, Target]) -> dict[str, float]:
    """Sends all kinds of request, and returns the seconds that the first one took. Raises
    RuntimeError unless all servers give the same answers, streamed or not."""
    first_s: dict[str, float] = {}
    answers: dict[str, str] = {}
    for name, target in targets.items():
        with client(target.server) as http:
            for kind in KINDS.keys() - {NEW_TOOLS}:
                for stream in (False, True):
                    body = target.body(kind, LONG_TOKENS, stream)
                    began_s = time.perf_counter()
                    answer = http.post(PATH, content=body).text
                    first_s.setdefault(name, time.perf_counter() - began_s)
                    text = _joined(answer) if stream else _content(json.loads(answer))
                    if text != answers.setdefault(kind, text) or len(text) < LONG_TOKENS:
                        raise RuntimeError(f"{name} does not answer as it should: {answer:.500}")
    return first_s


def _joined(stream: str) -> str:
    events = [line.removeprefix("data: ") for line in stream.splitlines() if line]
    chunks = [json.loads(event) for event in events if event != "[DONE]"]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


def _content(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"]) if "choices" in answer else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--limit-s", type=float, default=200, help="begin no round that ends later")
    parser.add_argument(
        "--without-card", action="store_true", help="leave out vLLM as the model card starts it"
    )
    args = parser.parse_args()
    console = Console()
    with contextlib.ExitStack() as up:
        folder = Path(up.enter_context(tempfile.TemporaryDirectory(prefix="bench-frontend-")))
        write_model(folder)
        small = {"model": str(folder), **CARD_FLAGS, **SMALL_FLAGS}
        servers = {
            NO_PARSER: up.enter_context(plain(small, folder / "no-parser.log")),
            OURS: up.enter_context(ours(small | TOOL_FLAGS, folder / "ours.log")),
        }
        if not args.without_card:
            servers[CARD] = up.enter_context(plain(small | TOOL_FLAGS, folder / "card.log"))
        with console.status(f"{len(servers)} vLLM are starting"):
            wait_until_ready(servers)
        # Without a parser vLLM rejects tools that it would have to parse.
        targets = {
            name: Target(server, {"tool_choice": "none"} if name == NO_PARSER else {})
            for name, server in servers.items()
        }
        first_s = first_answers(targets)
        with console.status(f"measuring, at most {args.limit_s:.0f} s"):
            measured = uvloop.run(measure(targets, args.rounds, args.limit_s))
    frontend_report.show(console, measured, first_s)


if __name__ == "__main__":
    main()
