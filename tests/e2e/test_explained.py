"""The record of a request: headers, the request log, and spans from the router into vLLM."""

import re
import secrets
from typing import Any

import httpx
import pytest

from tests.e2e.service import MODEL, Service
from tests.support.collector import Collector, Received
from tests.support.waiting import wait_for

SPAN_S = 20
"""Interval at which spans are exported in batches."""


def long_prompt() -> dict[str, Any]:
    """A new prompt of several blocks of the prefix cache."""
    text = f"{secrets.token_hex(8)} Count from 1 to 100." * 20
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], "max_tokens": 5}


@pytest.mark.parametrize("stream", [False, True])
def test_the_cached_tokens_of_a_prompt_are_told(http: httpx.Client, stream: bool) -> None:
    body = long_prompt() | {"stream": stream}
    first, second = (http.post("/v1/chat/completions", json=body) for _ in range(2))
    assert first.headers["x-replica"] == second.headers["x-replica"]
    assert int(first.headers["x-cached-tokens"]) < int(second.headers["x-cached-tokens"])
    assert int(second.headers["x-cached-tokens"]) > 100
    assert int(first.headers["x-expected-cached-tokens"]) == 0
    assert int(second.headers["x-expected-cached-tokens"]) > 100


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_has_a_line_in_the_log_and_none_in_the_terminal(
    http: httpx.Client, service: Service, stream: bool
) -> None:
    request_id = secrets.token_hex(8)
    body = long_prompt() | {"stream": stream}
    body |= {"stream_options": {"include_usage": True}} if stream else {}
    answer = http.post("/v1/chat/completions", json=body, headers={"x-request-id": request_id})

    def lines() -> list[dict[str, Any]]:
        return [line for line in service.request_log() if line["request_id"] == request_id]

    (line,) = wait_for(lines, 5, "the request's line is written")
    assert (line["outcome"], line["status"], line["model"]) == ("answered", 200, MODEL)
    assert line["replica"] == answer.headers["x-replica"]
    assert str(line["cached_tokens"]) == answer.headers["x-cached-tokens"]
    assert str(line["input_tokens"]) == answer.headers["x-prompt-tokens"]
    for name, field in (("prompt", "input_tokens"), ("completion", "output_tokens")):
        usage = re.search(rf'"{name}_tokens":(\d+)', answer.text)
        assert usage is not None
        assert line[field] == int(usage[1])
    assert request_id not in "\n".join(service.output)


@pytest.mark.parametrize(
    ("path", "prompt", "name"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}, "chat"),
        ("/v1/completions", {"prompt": "Hi"}, "text_completion"),
        ("/v1/responses", {"input": "Hi"}, "chat"),
    ],
)
def test_vllms_span_is_the_child_of_the_routers_in_the_clients_trace(
    http: httpx.Client,
    collector: Collector,
    path: str,
    prompt: dict[str, Any],
    name: str,
) -> None:
    trace_id, clients_span = secrets.token_hex(16), secrets.token_hex(8)
    answer = http.post(
        path,
        json={"model": "tiny", "max_tokens": 5, "max_output_tokens": 5} | prompt,
        headers={"traceparent": f"00-{trace_id}-{clients_span}-01"},
    )
    assert answer.status_code == 200

    def both() -> list[Received]:
        spans = [span for span in collector.spans if span.trace_id == trace_id]
        return spans if len(spans) == 2 else []

    spans = wait_for(both, SPAN_S, "the spans of router and engine come")
    router, engine = sorted(spans, key=lambda span: span.service, reverse=True)
    assert (router.service, router.name) == ("mistral-serve-router", f"{name} {MODEL}")
    assert (engine.service, engine.name) == ("mistral-serve-engine", "llm_request")
    assert (router.parent_id, engine.parent_id) == (clients_span, router.span_id)
    assert router.attributes["mistral_serve.replica"] == answer.headers["x-replica"]
    assert (
        router.attributes["gen_ai.usage.output_tokens"]
        == (engine.attributes["gen_ai.usage.completion_tokens"])
    )
