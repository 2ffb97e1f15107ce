"""A model in this process, over a stand-in for vLLM's engine."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from vllm.v1.engine.exceptions import EngineDeadError

from serving.catalogue import LoopGuard
from serving.config import ModelConfig
from serving.engine.vllm import server
from serving.engine.vllm.front_end import FrontEnd
from serving.mistral import ModelRules
from serving.offline import URL, EngineDiedError, OfflineModel
from serving.poison import Reason
from tests.engine.asking import BODIES, CHAT, COMPLETIONS, MESSAGES, RESPONSES
from tests.engine.fake_llm import Answer, FakeLlm, Part, control, ids, mistral_tokenizer

TINY = "mistral-serve/tiny-mistral-small-3.2"


class StandIn:
    """The interface of `VllmServer` that a model in this process uses."""

    max_num_seqs = 3

    def __init__(
        self, flags: Mapping[str, Any], names: Sequence[str], rules: ModelRules, guard: LoopGuard
    ) -> None:
        self.flags, self._names, self._rules, self._guard = flags, names, rules, guard
        self.engine = FakeLlm()
        self.closed = False

    async def start(self) -> FrontEnd:
        return FrontEnd(self.engine, self._names, self._rules, self._guard)

    @property
    def death(self) -> Reason | None:
        return "crash" if self.engine.errored else None

    async def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[StandIn]]:
    """The servers that are started."""
    started: list[StandIn] = []

    def start(*args: Any) -> StandIn:
        started.append(StandIn(*args))
        return started[-1]

    monkeypatch.setattr(server, "VllmServer", start)
    with patch.dict(os.environ):
        yield started


async def asked(
    path: str, *answers: Answer, config: Mapping[str, Any] | None = None, **fields: Any
) -> httpx.Response:
    """Returns the answer to a request of these fields, beside the least for that path."""
    model = OfflineModel(ModelConfig(model="tiny-mistral-small-3.2", **(config or {})))
    await model.start()
    model._server.engine.answers = list(answers)  # type: ignore[attr-defined]
    async with httpx.AsyncClient(transport=model, base_url=URL) as http:
        return await http.post(path, json=BODIES[path] | fields)


@pytest.mark.parametrize(
    ("path", "text_of"),
    [
        (CHAT, lambda body: body["choices"][0]["message"]["content"]),
        (COMPLETIONS, lambda body: body["choices"][0]["text"]),
        (RESPONSES, lambda body: body["output"][0]["content"][0]["text"]),
        (MESSAGES, lambda body: body["content"][0]["text"]),
    ],
)
async def test_every_api_is_answered_with_an_id(path: str, text_of: Any) -> None:
    response = await asked(path, model="tiny")
    assert response.status_code == 200
    body = response.json()
    assert text_of(body) == "Hello" and body["model"] == TINY
    assert body["id"].endswith(response.headers["x-request-id"])


async def test_a_request_is_normalised(stand_in: list[StandIn]) -> None:
    """Mistral's tokenizers know no developer, and no turn that says nothing."""
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": ""},
        {"role": "developer", "content": "Be brief"},
        {"role": "user", "content": "Well?"},
    ]
    response = await asked(CHAT, messages=messages)
    assert response.status_code == 200, response.text
    (call,) = stand_in[0].engine.calls
    prompt = mistral_tokenizer().decode(call.prompt["prompt_token_ids"])
    system = "[SYSTEM_PROMPT]Be brief[/SYSTEM_PROMPT]"
    assert prompt == f"<s>[INST]Hi[/INST]{system}[INST]Well?[/INST]"


async def test_the_models_settings_hold() -> None:
    think = [Part(ids("<think>a</think>b")), Part([control("</s>")], "stop")]
    response = await asked(CHAT, think, config={"reasoning": "separate"})
    message = response.json()["choices"][0]["message"]
    assert (message["reasoning"], message["content"]) == ("a", "b")


@pytest.mark.parametrize(
    ("path", "fields", "status", "error"),
    [
        (CHAT, {"model": "x"}, 404, {"code": "model_not_found", "param": "model"}),
        (CHAT, {"messages": 3}, 400, {"type": "invalid_request_error"}),
        (CHAT, {"temperature": -7}, 400, {"param": "temperature"}),
        (RESPONSES, {"previous_response_id": "resp_1"}, 400, {"param": "previous_response_id"}),
        (MESSAGES, {"model": "x"}, 404, {"type": "not_found_error"}),
    ],
)
async def test_an_error_is_that_of_a_service(
    path: str, fields: dict[str, Any], status: int, error: dict[str, str]
) -> None:
    response = await asked(path, **fields)
    assert response.status_code == status
    assert error.items() <= response.json()["error"].items()


async def test_a_dead_engine_is_told_apart_from_an_error() -> None:
    with pytest.raises(EngineDiedError):
        await asked(CHAT, [EngineDeadError()])
    assert (await asked(CHAT, [RuntimeError("inside")])).status_code == 500


async def test_the_engine_has_the_entrys_flags_and_environment_and_ends_with_the_client(
    stand_in: list[StandIn],
) -> None:
    settings = {"tensor_parallel_size": 2, "pipeline_parallel_size": 2, "max_model_len": 100}
    await asked(CHAT, config=settings)
    (one,) = stand_in
    flags = {"tensor-parallel-size": 2, "pipeline-parallel-size": 2, "max-model-len": 100}
    assert flags.items() <= one.flags.items()
    assert one.flags["model"].endswith("tiny/models/3.2")
    assert os.environ["OMP_NUM_THREADS"] == "1" and one.closed


async def test_a_body_that_is_no_json_is_refused() -> None:
    model = OfflineModel(ModelConfig(model="tiny-mistral-small-3.2"))
    await model.start()
    async with httpx.AsyncClient(transport=model, base_url=URL) as http:
        response = await http.post(CHAT, content=b"{")
    assert response.status_code == 400 and json.loads(response.content)["error"]["message"]
