"""Valid requests that make an engine fail get an answer or an error, and harm no other request."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.service import MODEL, Service
from tests.support.hostile_schemas import HOSTILE_SCHEMAS

LONG_PROMPT = "The quick brown fox jumps over a lazy dog. " * 900
"""Tokens of a prompt: several times what vLLM prefills in a step (2,048)."""

OVERSIZED_SCHEMA = {
    "type": "object",
    "properties": {f"p{n}": {"type": "string"} for n in range(600)},
}
"""A grammar that compiles and fails when the first token is generated: it may have 2,000 items."""

CHAT = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4, "temperature": 0}
FORMS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT
    | {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": OVERSIZED_SCHEMA},
        }
    },
    "/v1/responses": {
        "input": "Hello",
        "text": {"format": {"type": "json_schema", "name": "x", "schema": OVERSIZED_SCHEMA}},
    },
}


def chat(client: openai.OpenAI, prompt: str, **options: Any) -> str:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": prompt}],
        max_tokens=8,
        temperature=0.7,
        **options,
    )
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 8
    return answer.choices[0].message.content or ""


def test_a_seeded_request_survives_a_prefill_of_several_steps(
    service: Service, client: openai.OpenAI
) -> None:
    replicas = {replica["replica"] for replica in service.replicas()}
    first = chat(client, LONG_PROMPT, seed=1)
    # Alone, beside others that share the steps' budget, and with its prompt cached.
    with ThreadPoolExecutor(8) as pool:
        beside = list(pool.map(lambda _: chat(client, LONG_PROMPT, seed=1), range(4)))
        others = list(pool.map(lambda n: chat(client, f"{n} {LONG_PROMPT}", seed=n), range(4)))
    assert beside == [first] * 4
    assert len(others) == 4
    assert {replica["replica"] for replica in service.replicas()} == replicas


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", FORMS)
def test_a_grammar_that_fails_is_blamed_on_its_request(
    service: Service, http: httpx.Client, client: openai.OpenAI, path: str, stream: bool
) -> None:
    for _ in range(4):
        error = error_of(http, path, {"model": MODEL, "stream": stream} | FORMS[path])
        assert "schema or grammar" in error
        assert not any(replica["left_out"] for replica in service.replicas())
    assert chat(client, "Hello", seed=1)


@pytest.mark.parametrize("name", HOSTILE_SCHEMAS)
def test_a_schema_that_never_compiles_holds_up_no_answer(
    service: Service, http: httpx.Client, client: openai.OpenAI, name: str
) -> None:
    schema = HOSTILE_SCHEMAS[name]
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    parameters = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    tool = {"name": "f", "parameters": parameters, "strict": True}
    bodies = [
        CHAT | {"response_format": form},
        CHAT | {"tools": [{"type": "function", "function": tool}], "tool_choice": "required"},
    ]
    with ThreadPoolExecutor(10) as pool:
        errors = [
            pool.submit(error_of, http, "/v1/chat/completions", {"model": MODEL, **body})
            for body in bodies
        ]
        answers = list(pool.map(lambda n: chat(client, "Hello", seed=n), range(8)))
    assert all(answers)
    assert all("takes too long to compile" in error.result() for error in errors)
    assert not any(replica["left_out"] for replica in service.replicas())


def error_of(http: httpx.Client, path: str, body: dict[str, Any]) -> str:
    """The message of the 400 that the answer is. The grammar fails at the first token."""
    answer = http.post(path, json=body)
    assert answer.status_code == 400
    message: str = answer.json()["error"]["message"]
    return message
