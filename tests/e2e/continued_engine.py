"""A real engine that continues its own streams from behind each of their events.

`python -m tests.e2e.continued_engine MODEL` prints a line of JSON for each kind of stream: its
name, the number of places, and at how many of them the client got something else than without the
break. With `prompt` as another argument the engine takes the tokens so far as a part of the prompt,
as it does where vLLM has another model runner, and streams that depend on more than their tokens
are left out.
"""

import asyncio
import itertools
import json
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from serving.catalogue.vllm_flags import vllm_flags
from serving.config import ModelConfig
from serving.engine import torch_compile
from serving.engine.entry_flags import engine_flags, environment
from serving.engine_protocol import BEGIN, CACHE_SALT, RESUMPTION
from serving.router.proxy.stream_resumption import StreamResumption
from tests.engine.pictures import data_url, encoded

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MESSAGES, RESPONSES = "/v1/messages", "/v1/responses"
_AT_ONCE = 8
_NUMBERS = itertools.count()
_ID = re.compile(r"id[0-9]{5}")
ALTERNATIVES = ".top_logprobs"
_TEXTS = ("content", "text", "reasoning", "arguments", "delta", "thinking", "partial_json")

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
WEATHER = {"name": "get_weather", "description": "Weather of a city.", "parameters": CITY}
TOOLS = [{"type": "function", "function": WEATHER}]
NAMED = {"type": "function", "function": {"name": "get_weather"}}
ASK = [{"role": "user", "content": "What is the weather in Paris and in Rome? Use the tool."}]
COUNT = [{"role": "user", "content": "Count from 1 to 15."}]
HOT = {"temperature": 0.7, "seed": 5}
LARK = 'start: ("yes" | "no") (" yes" | " no"){8}'


def form(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a request for JSON of this schema."""
    return {
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    }


def near(values: Any) -> Any:
    """Returns what equals log-probabilities that differ no more than by their batch, and by the
    kernel that has read a token: logits are BF16, with a precision of eight bits."""
    return pytest.approx(values, abs=0.05, rel=2**-7)


def largest(alternatives: Mapping[str, Any]) -> float:
    """Returns the largest of the log-probabilities in an entry of `top_logprobs`. Which token has
    it is not compared: two tokens may be equally likely but for `near`."""
    return max(value for value in alternatives.values() if isinstance(value, float))


def cases(image: str | None) -> dict[str, tuple[str, dict[str, Any]]]:
    """Returns the path and the fields of each kind of stream."""
    chats: dict[str, dict[str, Any]] = {
        "text with a seed": {"messages": COUNT, **HOT},
        "JSON with a seed": {"messages": ASK, **form(CITY), **HOT},
        "required calls": {"messages": COUNT, "tools": TOOLS, "tool_choice": "required"},
        "penalties with a seed": {"messages": COUNT, "frequency_penalty": 1.0, **HOT},
        "calls": {"messages": ASK, "tools": TOOLS},
        "text": {"messages": COUNT},
        "penalties": {"messages": COUNT, "presence_penalty": 1.5, "repetition_penalty": 1.2},
        "least tokens": {"messages": [{"role": "user", "content": "Hi"}], "min_tokens": 30},
        "stop strings": {"messages": COUNT, "stop": ["9, 10", "never"]},
        "logprobs": {"messages": COUNT, "logprobs": True, "top_logprobs": 2},
        "several answers": {"messages": COUNT, "n": 2, **HOT, "max_tokens": 12},
        "a named call": {"messages": COUNT, "tools": TOOLS, "tool_choice": NAMED},
        "a call with a seed": {"messages": ASK, "tools": TOOLS, "tool_choice": "required", **HOT},
        "JSON": {"messages": ASK, **form(CITY)},
        "any JSON": {"messages": ASK, "response_format": {"type": "json_object"}, **HOT},
        "a regex": {"messages": COUNT, "structured_outputs": {"regex": "([0-9]{3}-){6}[a-z]+"}},
        "a choice": {"messages": COUNT, "structured_outputs": {"choice": ["one hundred", "one"]}},
        "a grammar": {"messages": COUNT, "structured_outputs": {"grammar": LARK}},
        "reasoning": {"messages": COUNT, "reasoning_format": "separate"},
    }
    if image is not None:
        shown = {"type": "image_url", "image_url": {"url": image}}
        asked = [{"type": "text", "text": "What is this?"}, shown]
        chats["an image"] = {"messages": [{"role": "user", "content": asked}], **HOT}
    system = {"type": "function", **WEATHER}
    return {name: (CHAT, {"temperature": 0, **fields}) for name, fields in chats.items()} | {
        "a completion": (COMPLETIONS, {"prompt": "1, 2, 3,", "temperature": 0}),
        "completions": (
            COMPLETIONS,
            {"prompt": ["1, 2,", "A, B,"], "n": 2, "echo": True, "max_tokens": 8, **HOT},
        ),
        "logprobs of a prompt": (
            COMPLETIONS,
            {"prompt": "1, 2, 3,", "temperature": 0, "echo": True, "logprobs": 1},
        ),
        "a message": (MESSAGES, {"messages": COUNT, "temperature": 0}),
        "a message that calls": (
            MESSAGES,
            {
                "messages": ASK,
                "tools": [{"name": "get_weather", "input_schema": CITY}],
                "tool_choice": {"type": "any"},
                "temperature": 0,
            },
        ),
        "a response": (RESPONSES, {"input": "Count from 1 to 15.", "temperature": 0}),
        "a response that calls": (
            RESPONSES,
            {"input": ASK, "tools": [system], "tool_choice": "required", "temperature": 0},
        ),
    }


def comparable(stream: bytes) -> dict[str, Any]:
    """Returns what the events of a stream say of each thing, however many tokens an event has:
    vLLM hands over several at once if it was waited for."""
    found: dict[str, list[Any]] = {}
    text = _ID.sub("id", stream.decode())
    for event in text.split("\n\n")[:-1]:
        name, _, data = event.rpartition("data: ")
        _note([data] if data == "[DONE]" else json.loads(data), name.strip(), found)
    return {
        path: "".join(said)
        if path.rpartition(".")[2] in _TEXTS
        else said
        if "logprobs" in path
        else [*dict.fromkeys(said)]
        for path, said in found.items()
    }


def _note(value: Any, path: str, found: dict[str, list[Any]]) -> None:
    if isinstance(value, dict) and path.endswith(ALTERNATIVES):
        found.setdefault(path, []).append(largest(value))
    elif isinstance(value, dict):
        path += f"/{value.get('type', '')}{value.get('index', value.get('output_index', ''))}"
        for key, one in value.items():
            _note(one, f"{path}.{key}", found)
    elif isinstance(value, list):
        for one in value:
            _note(one, path, found)
    elif value not in (None, "") and not path.endswith("sequence_number"):
        found.setdefault(path, []).append(value)


def is_alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Returns whether two streams say the same."""
    return one.keys() == other.keys() and all(
        said == (near(other[path]) if type(said[0]) is float else other[path])
        for path, said in one.items()
    )


class Streams:
    def __init__(self, http: httpx.AsyncClient, path: str, fields: Mapping[str, Any]) -> None:
        limit = "max_output_tokens" if path == RESPONSES else "max_tokens"
        usage = {"stream_options": {"include_usage": True}} if path in (CHAT, COMPLETIONS) else {}
        self._http, self._path = http, path
        self._body = json.dumps({limit: 40, "stream": True, **usage, **fields}).encode()
        self._few = asyncio.Semaphore(_AT_ONCE)

    async def different(self) -> tuple[int, int]:
        """Returns at how many places the stream was broken off, and at how many of them it went on
        differently."""
        whole = await self._post(self._body, BEGIN)
        events = [event + b"\n\n" for event in whole.content.split(b"\n\n")[:-1]]
        expected = comparable(self._resumption(whole).feed(whole.content))
        found = await asyncio.gather(
            *(self._continued(whole, b"".join(events[:cut])) for cut in range(1, len(events)))
        )
        other = next((one for one in found if not is_alike(one, expected)), None)
        if other is not None:
            print(other, expected, sep="\n---\n", file=sys.stderr)
        return len(found), sum(not is_alike(one, expected) for one in found)

    async def _continued(self, whole: httpx.Response, delivered: bytes) -> dict[str, Any]:
        resumption = self._resumption(whole)
        got = resumption.feed(delivered)
        assert not resumption.broken() and not resumption.unresumable_reason
        cached = int(whole.headers.get("x-cached-tokens", 0))
        header, body, _ = resumption.continuation(cached)
        sent = header.removeprefix(RESUMPTION + b": ").removesuffix(b"\r\n")
        async with self._few:
            rest = await self._post(body, sent)
        return comparable(got + resumption.feed(rest.content))

    def _resumption(self, whole: httpx.Response) -> StreamResumption:
        resumption = StreamResumption(self._path, self._body, "")
        resumption.answered(whole.headers.raw)
        return resumption

    async def _post(self, body: bytes, resumption: bytes) -> httpx.Response:
        headers = {
            RESUMPTION.decode(): resumption.decode(),
            CACHE_SALT.decode(): "0:salt",
            "x-request-id": f"id{next(_NUMBERS):05}",  # no two at a time are the same to vLLM
        }
        answer = await self._http.post(self._path, content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer


def of_tokens_alone(fields: Mapping[str, Any]) -> bool:
    """Returns whether what follows depends on no penalty and no random generator."""
    return not fields.keys() & {"seed", "frequency_penalty", "presence_penalty"}


async def main(model: str, in_prompt: bool) -> None:
    config = ModelConfig(model=model)
    entry = config.entry
    os.environ.update(environment(entry) | {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"})
    torch_compile.avoid(vllm_flags(entry).get("enforce-eager") is True)  # as a replica does
    # After the environment is set, which vLLM reads when it is imported.
    from serving.engine.vllm import server as module
    from serving.engine.vllm.server import VllmServer
    from serving.model_rules import rules_of

    if in_prompt:
        vars(module)["resumes_exactly"] = lambda _: False
    server = VllmServer(engine_flags(entry), ["tiny"], rules_of(config), entry.loop_guard)
    app = await server.start()
    image = data_url(encoded(size=(64, 64))) if entry.image_limit else None
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://engine", timeout=None
    ) as http:
        for name, (path, fields) in cases(image).items():
            if in_prompt and not of_tokens_alone(fields):
                continue
            places, different = await Streams(http, path, fields).different()
            print(json.dumps([name, places, different]), flush=True)
    await server.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], "prompt" in sys.argv[2:]))
