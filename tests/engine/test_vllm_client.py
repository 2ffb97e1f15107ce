"""vLLM's engine client as every endpoint uses it."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
from vllm.sampling_params import SamplingParams, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from serving.engine.loop_guard import STOP_REASON
from serving.engine.prompt_tokens import PromptTokensHeaders
from serving.engine.vllm.client import LOOP_STOPS, ConstraintError, Llm


async def test_a_stopped_loop_ends_with_length_and_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends = [("stop", STOP_REASON), ("repetition", STOP_REASON), ("stop", None), ("stop", "END")]

    async def generate(self: AsyncLLM, *args: Any) -> AsyncIterator[Any]:
        assert args == ("prompt",)
        for reason, stop in [(None, None), *ends]:
            choice = SimpleNamespace(finish_reason=reason, stop_reason=stop)
            yield SimpleNamespace(outputs=[choice], num_cached_tokens=0, prompt_token_ids=[])

    monkeypatch.setattr(AsyncLLM, "generate", generate)
    llm = Llm.__new__(Llm)
    llm.model_config = SimpleNamespace(served_model_name="test-model")
    counted = LOOP_STOPS.labels("test-model")
    before = counted._value.get()
    outputs = [output async for output in llm.generate("prompt")]
    assert [(o.outputs[0].finish_reason, o.outputs[0].stop_reason) for o in outputs] == [
        (None, None),
        ("length", STOP_REASON),
        ("length", STOP_REASON),
        ("stop", None),
        ("stop", "END"),
    ]
    assert counted._value.get() - before == 2
    assert all(line.startswith("mistral_serve_loop_stops") for line in exposed("test-model"))


@pytest.mark.parametrize("constrained", [True, False])
async def test_only_a_constraint_makes_an_error_the_requests(
    monkeypatch: pytest.MonkeyPatch, constrained: bool
) -> None:
    async def generate(self: AsyncLLM, *args: Any) -> AsyncIterator[Any]:
        choice = SimpleNamespace(finish_reason="error", stop_reason=None)
        yield SimpleNamespace(outputs=[choice], num_cached_tokens=0, prompt_token_ids=[])

    monkeypatch.setattr(AsyncLLM, "generate", generate)
    outputs = StructuredOutputsParams(json={}) if constrained else None
    params = SamplingParams(structured_outputs=outputs)
    answer = Llm.__new__(Llm).generate("prompt", params)
    if constrained:
        with pytest.raises(ConstraintError) as raised:
            await anext(answer)
        error = create_error_response(raised.value).error
        assert (error.code, error.type) == (400, "BadRequestError")
    else:
        assert (await anext(answer)).outputs[0].finish_reason == "error"


@pytest.mark.parametrize(("cached", "reported"), [(0, b"0"), (17, b"17"), (None, b"0")])
async def test_what_was_cached_of_a_prompt_is_noted_once(
    monkeypatch: pytest.MonkeyPatch, cached: int | None, reported: bytes
) -> None:
    async def generate(self: AsyncLLM) -> AsyncIterator[Any]:
        for _ in range(3):
            yield SimpleNamespace(outputs=[], num_cached_tokens=cached, prompt_token_ids=[1] * 20)

    monkeypatch.setattr(AsyncLLM, "generate", generate)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async for _ in Llm.__new__(Llm).generate():
            await send({"type": "http.response.body", "body": b"piece", "more_body": True})

    await PromptTokensHeaders(app)({"type": "http"}, None, send)  # type: ignore[arg-type]
    assert sent[0]["headers"] == [(b"x-prompt-tokens", b"20"), (b"x-cached-tokens", reported)]


def exposed(model: str) -> list[str]:
    """Returns the lines about a model in the registry that vLLM's /metrics exposes."""
    from prometheus_client import generate_latest
    from vllm.v1.metrics.prometheus import get_prometheus_registry

    text = generate_latest(get_prometheus_registry()).decode()
    lines = [line for line in text.splitlines() if f'model_name="{model}"' in line]
    assert lines
    return lines


class Asked(Llm):
    """An engine client whose engine process the test provides."""

    def __init__(self) -> None:
        self.dead = False
        self.answers = asyncio.Event()

    @property
    def errored(self) -> bool:
        return self.dead

    @property
    def dead_error(self) -> Any:
        return EngineDeadError()

    async def is_sleeping(self) -> bool:
        await self.answers.wait()
        return False


async def test_health_is_what_the_engine_process_says() -> None:
    llm = Asked()
    asked = asyncio.create_task(llm.check_health())
    await asyncio.sleep(0)
    assert not asked.done()
    llm.answers.set()
    await asked


async def test_a_process_that_ends_before_it_answers_is_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serving.engine.vllm.client._DEAD_POLL_S", 0.01)
    llm = Asked()
    asked = asyncio.create_task(llm.check_health())
    await asyncio.sleep(0)
    llm.dead = True
    with pytest.raises(EngineDeadError):
        await asked
