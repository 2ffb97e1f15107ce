"""Client libraries that users have, each asked to do on the service what it is used for.

Each of `programs/` prints what its steps saw, for each API that its client speaks: the answer and
the calls of the calculator, or the exception that its caller got.
"""

import json
import re
from functools import cache
from typing import Any

import pytest

from serving.tiny import answers
from tests.e2e.clients import environment
from tests.e2e.images import noise, solid
from tests.e2e.service import Service

pytestmark = pytest.mark.full

EXPRESSIONS = ["19 - (8 + 2) + 1", "6 + 2 * 3"]
RESULTS = "Here are the results"
CAPITAL = {"country": "France", "capital": "Paris"}
ANSWERS: dict[str, Any] = {
    "hello": answers.GREETING_ANSWER,
    "stream": answers.counting(20),
    "image": "The image is red.",
    "structured": CAPITAL,
    "structured_beside_tools": CAPITAL,
    "structured_by_a_tool": CAPITAL,
    "prefix": answers.counting(20).removeprefix("1, 2, 3"),
    "handoff": "second",
    "calls": ['{"expression": "6 + 2 * 3"}', '{"expression": "19 - (8 + 2) + 1"}'],
    "agent": None,
    "agent_streamed": None,
    "an_object": sorted(CAPITAL),
    "an_object_streamed": sorted(CAPITAL),
    "second_turn": True,
    "models": [True, True, True],
    "usage_of_a_stream": True,
}
CALLED = {
    "tools": EXPRESSIONS,
    "tools_streamed": EXPRESSIONS,
    "second_turn": EXPRESSIONS,
    "agent": EXPRESSIONS[1:],
    "agent_streamed": EXPRESSIONS[1:],
}
STREAMED = {"stream", "tools_streamed"}
REFUSED = {
    "unknown_model": "no-such-model",
    "refused_parameter": "temperature|max_(completion_|output_)?tokens|top_p",
}

OPENAI = ("openai.NotFoundError", "openai.BadRequestError")
ANTHROPIC = ("anthropic.NotFoundError", "anthropic.BadRequestError")
MISTRAL = ("mistralai.SDKError", "mistralai.SDKError")
PYDANTIC_AI = ("pydantic_ai.ModelHTTPError", "pydantic_ai.ModelHTTPError")
LITELLM = ("litellm.NotFoundError", "litellm.BadRequestError")
INSTRUCTOR = ("instructor.InstructorRetryException", "instructor.InstructorRetryException")
CLIENTS = {
    "openai_agents": {"responses": OPENAI, "chat": OPENAI},
    "mistralai": {"mistral": MISTRAL},
    "langchain": {
        "chat": OPENAI,
        "responses": OPENAI,
        "messages": ANTHROPIC,
        "mistral": ("httpx.HTTPStatusError", "httpx.HTTPStatusError"),
    },
    "pydantic_ai": dict.fromkeys(("chat", "responses", "messages", "mistral"), PYDANTIC_AI),
    "litellm": dict.fromkeys(("chat", "responses", "mistral", "messages", "vllm"), LITELLM),
    "instructor": dict.fromkeys(
        (
            "chat, a call",
            "chat, a strict call",
            "chat, a schema",
            "responses",
            "messages",
            "mistral, a call",
            "mistral, a schema",
        ),
        INSTRUCTOR,
    ),
    "llama_index": {"chat": OPENAI},
    "haystack": {"chat": OPENAI, "responses": OPENAI},
    "smolagents": {"chat": OPENAI},
}
"""The APIs of each client, and the exceptions for an unknown model and a refused parameter."""


@cache
def seen_by(client: str, url: str) -> dict[str, Any]:
    images = {"IMAGE_RED": solid("red"), "IMAGE_NOISE": noise()}
    result = environment.run(client, url, images)
    assert result.returncode == 0, result.stderr[-2000:]
    seen: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return seen


def is_what_was_asked_for(step: str, answer: Any) -> bool:
    if step in STREAMED:
        pieces = [piece for piece in answer if piece]
        if len(pieces) < 5:
            return False
        answer = "".join(pieces)
    if step in ("tools", "tools_streamed"):
        return bool(answer.startswith(RESULTS))
    return bool(answer == ANSWERS[step])


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_does_what_it_is_used_for(service: Service, client: str) -> None:
    seen = seen_by(client, service.url)
    assert seen["reached"] == []
    assert seen["seen"].keys() == CLIENTS[client].keys()
    for api, steps in seen["seen"].items():
        for step, result in steps.items():
            if step not in REFUSED:
                case = f"{api}, {step}: {result}"
                assert "raised" not in result, case
                assert is_what_was_asked_for(step, result["answer"]), case
                assert sorted(result["called"]) == CALLED.get(step, []), case


@pytest.mark.parametrize("client", CLIENTS)
def test_a_refusal_is_the_clients_own_exception(service: Service, client: str) -> None:
    for api, steps in seen_by(client, service.url)["seen"].items():
        for (step, says), exception in zip(REFUSED.items(), CLIENTS[client][api], strict=True):
            assert exception in steps[step]["raised"], f"{api}, {step}: {steps[step]}"
            assert re.search(says, steps[step]["says"]), f"{api}, {step}: {steps[step]}"
