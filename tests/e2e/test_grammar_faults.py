"""Requests whose grammars fail harm no other stream, on real vLLM, through every API."""

import asyncio
import json
import time
from typing import Any

import httpx

from tests.e2e.service import ENDLESS, Service
from tests.e2e.test_hostile_requests import OVERSIZED_SCHEMA

STREAMS = 30
TOKENS = 120
"""Length of each innocent stream."""
FAULTS = 100
_AT_ONCE = 8
_STRING = {"type": "string", "maxLength": 12}
SCHEMAS: dict[str, dict[str, Any]] = {
    "an unknown definition": {"$ref": "#/$defs/nowhere"},
    "a pattern that looks ahead": {"type": "string", "pattern": "(?=a)b"},
    "a pattern that is none": {"type": "string", "pattern": "(("},
    "no possible value": {"type": "integer", "minimum": 5, "maximum": 1},
    "too large at the first token": OVERSIZED_SCHEMA,
    "too large amid the answer": {
        "type": "object",
        "properties": {"a": _STRING, "b": OVERSIZED_SCHEMA},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
}
_HELLO = [{"role": "user", "content": "Hello"}]


def body(path: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A request for an answer of that schema."""
    form = {"type": "json_schema", "name": "x", "schema": schema, "strict": True}
    match path:
        case "/v1/chat/completions":
            own = {"type": "json_schema", "json_schema": form}
            return {"messages": _HELLO, "response_format": own}
        case "/v1/completions":
            return {"prompt": "Hello", "max_tokens": 50, "structured_outputs": {"json": schema}}
        case "/v1/responses":
            return {"input": "Hello", "text": {"format": form}}
    own = {"type": "json_schema", "schema": schema}
    return {"messages": _HELLO, "max_tokens": 50, "output_config": {"format": own}}


FIELDS = {
    "/v1/chat/completions": "response_format",
    "/v1/completions": "structured_outputs",
    "/v1/responses": "text.format",
    "/v1/messages": "output_config.format",
}


async def innocent(http: httpx.AsyncClient, number: int) -> float:
    """Reads one stream and checks that it is whole. Returns its longest silence, in seconds."""
    request = ENDLESS | {
        "messages": [{"role": "user", "content": f"Tell me of the number {number}."}],
        "max_tokens": TOKENS,
        "stream_options": {"include_usage": True},
    }
    events: list[str] = []
    longest_s, last_s = 0.0, time.monotonic()
    async with http.stream("POST", "/v1/chat/completions", json=request) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if line:
                now_s = time.monotonic()
                longest_s, last_s = max(longest_s, now_s - last_s), now_s
                events.append(line.removeprefix("data: "))
    assert events[-1] == "[DONE]"
    *_, end, usage = map(json.loads, events[:-1])
    assert end["choices"][0]["finish_reason"] == "length"
    assert usage["usage"]["completion_tokens"] == TOKENS
    return longest_s


async def fault(http: httpx.AsyncClient, path: str, stream: bool, name: str) -> bool:
    """Sends one request that cannot be answered, and checks that it is blamed itself. Returns
    whether the error came amid its stream."""
    request = {"model": ENDLESS["model"], "stream": stream, **body(path, SCHEMAS[name])}
    response = await http.post(path, json=request)
    said = f"{path}, {name}: {response.text[-300:]}"
    if response.status_code != 200:
        assert response.status_code == 400, said
        error = response.json()["error"]
        assert error["type"] == "invalid_request_error", said
        refused = f"{FIELDS[path]} cannot be used: "
        if name.startswith("too large"):  # which the engine finds
            refused = "The answer cannot be constrained to the schema or grammar"
        assert error["message"].startswith(refused), said
        return False
    assert stream, said
    events = [
        json.loads(line.removeprefix("data: "))
        for line in response.text.split("\n")
        if line.startswith("data: {")
    ]
    assert "schema or grammar" in json.dumps(events[-1]), said
    match path:
        case "/v1/responses":
            assert (events[-2]["type"], events[-2]["code"]) == ("error", "invalid_prompt"), said
            assert events[-1]["type"] == "response.failed", said
        case "/v1/messages":
            assert events[-1]["type"] == "error", said
            assert events[-1]["error"]["type"] == "invalid_request_error", said
        case _:
            assert events[-1]["error"]["code"] == 400, said
    return True


def ejections(service: Service) -> int:
    """How often the routers have ejected a replica so far, by their logs."""
    logs = (service.folder / "session_latest/logs/serve").glob("replica_*.log")
    return sum(log.read_text(errors="replace").count(" is ejected: ") for log in logs)


async def test_grammars_that_fail_harm_no_other_stream(service: Service) -> None:
    before = ejections(service)
    requests = [
        (path, stream, name) for name in SCHEMAS for path in FIELDS for stream in (False, True)
    ]
    requests = [requests[number % len(requests)] for number in range(FAULTS)]
    gate = asyncio.Semaphore(_AT_ONCE)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=service.url, timeout=300, limits=limits) as http:

        async def one(path: str, stream: bool, name: str) -> bool:
            async with gate:
                return await fault(http, path, stream, name)

        begun_s = time.monotonic()
        streams = [asyncio.create_task(innocent(http, number)) for number in range(STREAMS)]
        amid = await asyncio.gather(*(one(*request) for request in requests))
        faults_s = time.monotonic() - begun_s
        silences_s = await asyncio.gather(*streams)
        streams_s = time.monotonic() - begun_s
    print(
        f"longest silence of a stream: {max(silences_s):.2f} s; all faults after {faults_s:.1f} s, "
        f"all streams after {streams_s:.1f} s; {sum(amid)} errors came amid their streams"
    )
    assert any(amid)
    assert ejections(service) == before
    assert not any(replica["left_out"] for replica in service.replicas())
