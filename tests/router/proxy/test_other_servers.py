"""Errors and answers of other OpenAI servers behind the router, as a stand-in gives them."""

import json
from typing import Any

import pytest

from serving.mistral import ModelRules
from serving.router.replicas.backend import Backend
from serving.router.replicas.model import Model
from tests.support.engines import Engine
from tests.support.http_server import response
from tests.support.live_router import LiveRouter, StartRouter

NAME = "mistral-small:24b-instruct-2501-q8_0"


class Other(Engine):
    """Gives each request the answer that the test has set."""

    status = 200
    answered: bytes = b""

    def respond(self, request: dict[str, Any]) -> None:
        self.transport.write(response(self.answered, self.status))


async def asked(
    start_router: StartRouter, status: int, answer: bytes, **fields: Any
) -> tuple[LiveRouter, int, dict[str, Any]]:
    """Returns the router, and the status and body of its answer."""
    rules = ModelRules(NAME, "v7", 1000, image_limit=0, other_server=True)
    model = Model(NAME, ("small",), rules, Backend("http://other.test:11434/v1", NAME, 1000))
    other = type("Other", (Other,), {"status": status, "answered": answer})
    router = await start_router(other, models=[model])
    answered = await router.chat(model=NAME, **fields)
    return router, answered.status_code, answered.json()


@pytest.mark.parametrize(
    ("status", "answer", "clients_status", "message"),
    [
        (
            200,
            b'{"error":"Unexpected endpoint or method. (POST /chat/completions)"}',
            404,
            "Unexpected endpoint or method. (POST /chat/completions)",
        ),
        (200, b'{"error":{"message":"The model crashed."}}', 502, "The model crashed."),
        (400, b'{"error":"Invalid tool_choice type"}', 400, "Invalid tool_choice type"),
        (400, b'{"detail":"Client closed request"}', 400, "Client closed request"),
        (404, b"404 page not found", 404, "The engine answered with status 404."),
        (
            404,
            b'{"error":{"message":"model \'x\' not found","type":"not_found_error","code":null}}',
            404,
            "model 'x' not found",
        ),
        (
            503,
            b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}',
            503,
            "Loading model",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_its_errors_have_openais_form_and_the_status_that_they_mean(
    start_router: StartRouter,
    status: int,
    answer: bytes,
    clients_status: int,
    message: str,
    stream: bool,
) -> None:
    _, got, body = await asked(start_router, status, answer, stream=stream)
    assert got == clients_status
    assert body["error"]["message"] == message
    assert body["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_it_rejects_is_no_fault_of_the_client(
    start_router: StartRouter, status: int
) -> None:
    router, got, body = await asked(start_router, status, b'{"error":{"message":"Bad key sk-1"}}')
    assert (got, body["error"]["code"]) == (502, "backend_key_rejected")
    assert "api_key_env" in body["error"]["message"] and "sk-1" not in body["error"]["message"]
    assert len(router.engines[0].received) == 1


async def test_what_it_calls_has_an_id(start_router: StartRouter) -> None:
    call = {"id": "", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": "", "tool_calls": [call]}
    answer = {"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    _, status, body = await asked(start_router, 200, json.dumps(answer).encode(), tools=[tool])
    (choice,) = body["choices"]
    assert (status, choice["finish_reason"]) == (200, "tool_calls")
    assert len(choice["message"]["tool_calls"][0]["id"]) == 9


async def test_a_name_with_a_colon_is_found_as_clients_write_it(start_router: StartRouter) -> None:
    router, _, _ = await asked(start_router, 200, b"{}")
    for name in (NAME, "small"):
        found = await router.http.get(f"/v1/models/{name}")
        assert found.json()["id"] == NAME
