"""Requests that vLLM takes for preempted ones."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.sampling_params import SamplingParams
from vllm.v1.request import Request
from vllm.v1.worker.gpu_input_batch import CachedRequestState

from serving.engine.vllm.resumed_requests import (
    GRAMMAR_IDS,
    RESUMED_IDS,
    ResumedStates,
    resume,
    resumes_exactly,
)
from serving.engine.vllm.scheduler import use_engine_scheduler


def request(ids: list[int] | None) -> Request:
    params = SamplingParams(max_tokens=9, extra_args=ids and {RESUMED_IDS: ids})
    return Request("id", [1, 2, 3], params, None)


def test_a_request_goes_on_as_after_a_preemption() -> None:
    resumed, new = request([7, 8]), request(None)
    resume(resumed)
    resume(new)
    assert list(resumed.all_token_ids) == [1, 2, 3, 7, 8]
    assert (resumed.num_prompt_tokens, resumed.num_output_tokens) == (3, 2)
    assert (resumed.num_preemptions, new.num_preemptions) == (1, 0)
    assert new.num_output_tokens == 0


def test_vllm_counts_what_it_reads_for_a_resumed_request() -> None:
    resumed = request([7, 8])
    resume(resumed)
    assert resumed.prefill_stats.num_prompt_tokens == 5


def test_in_a_prompt_the_tokens_count_for_the_grammar_alone() -> None:
    params = SamplingParams(max_tokens=9, extra_args={GRAMMAR_IDS: [2, 3]})
    resumed, grammar = Request("id", [1, 2, 3], params, None), Grammar(accepts=True)
    compiled: Future[Any] = Future()
    compiled.set_result(grammar)
    resumed.structured_output_request = SimpleNamespace(_grammar=compiled)
    resume(resumed)
    assert grammar.read == [2, 3]
    assert (resumed.num_prompt_tokens, resumed.num_output_tokens) == (3, 0)
    assert resumed.num_preemptions == 0


class Grammar:
    def __init__(self, accepts: bool) -> None:
        self.accepts = accepts
        self.read: list[int] = []

    def accept_tokens(self, request_id: str, ids: list[int]) -> bool:
        self.read += ids
        return self.accepts


@pytest.mark.parametrize("ready", [True, False])
def test_its_grammar_has_read_the_tokens(ready: bool) -> None:
    resumed, grammar = request([7, 8]), Grammar(accepts=True)
    compiled: Future[Any] = Future()
    resumed.structured_output_request = structured = SimpleNamespace(_grammar=compiled)
    if ready:
        compiled.set_result(grammar)
    resume(resumed)
    if not ready:
        assert not structured.grammar.done()
        compiled.set_result(grammar)
    assert structured.grammar.result(0) is grammar
    assert grammar.read == [7, 8]


@pytest.mark.parametrize("fails", [True, False])
def test_a_grammar_that_does_not_fit_ends_the_request_alone(fails: bool) -> None:
    resumed = request([7, 8])
    compiled: Future[Any] = Future()
    resumed.structured_output_request = structured = SimpleNamespace(_grammar=compiled)
    resume(resumed)
    if fails:
        compiled.set_exception(RuntimeError("does not compile"))
    else:
        compiled.set_result(Grammar(accepts=False))
    assert isinstance(structured.grammar.exception(0), RuntimeError if fails else ValueError)


def state(ids: list[int] | None, seed: int | None = None) -> CachedRequestState:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    params = SamplingParams(extra_args=ids and {RESUMED_IDS: ids})
    return CachedRequestState("id", [1, 2], [], params, generator, ([],), 0, [])


def test_the_worker_has_the_tokens_as_output() -> None:
    states = ResumedStates()
    states["new"], states["resumed"] = state(None), state([7, 8])
    assert states["new"].output_token_ids == []
    assert states["resumed"].output_token_ids == [7, 8]
    assert states["resumed"].num_tokens == 4


def test_a_generator_has_drawn_once_for_each_token() -> None:
    states = ResumedStates()
    states["new"], states["resumed"] = state(None, seed=5), state([7, 8], seed=5)
    draws = [
        torch.randint(0, 2**31, (1,), generator=states["new"].generator, dtype=torch.long).item()
        for _ in range(3)
    ]
    generator = states["resumed"].generator
    assert torch.randint(0, 2**31, (1,), generator=generator, dtype=torch.long).item() == draws[2]


def config(**changes: Any) -> Any:
    values = {
        "worker_cls": "serving.engine.vllm.worker.SeededCpuWorker",
        "scheduler_cls": None,
        "speculative": None,
        "fp64": False,
        "v2": False,
    } | changes
    built: Any = SimpleNamespace(
        scheduler_config=SimpleNamespace(
            scheduler_cls=values["scheduler_cls"], async_scheduling=True
        ),
        parallel_config=SimpleNamespace(worker_cls=values["worker_cls"]),
        speculative_config=values["speculative"],
        model_config=SimpleNamespace(use_fp64_gumbel=values["fp64"]),
        use_v2_model_runner=values["v2"],
    )
    use_engine_scheduler(built, has_public_prompts=False)
    return built


@pytest.mark.parametrize(
    "changes",
    [
        {"worker_cls": "vllm.v1.worker.gpu_worker.Worker"},
        {"scheduler_cls": "another.Scheduler"},
        {"speculative": object()},
        {"fp64": True},
        {"v2": True},
    ],
)
def test_only_the_v1_model_runner_on_a_cpu_resumes_exactly(changes: dict[str, Any]) -> None:
    assert resumes_exactly(config())
    assert not resumes_exactly(config(**changes))
