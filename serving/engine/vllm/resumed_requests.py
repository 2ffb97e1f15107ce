"""Requests that go on behind tokens which another engine generated, as if they had been preempted.

vLLM itself resumes a request that it preempted: with the tokens so far as output, not as prompt, so
that penalties, `min_tokens`, bad words and limits count them. Here a new request is given that
state, in the scheduler and in the worker; its grammar is advanced over the tokens, and its random
generator as often as it would have drawn for them.

This is made for vLLM's V1 model runner on a CPU, where it is tested. The V2 model runner, which
vLLM uses on GPUs, keeps other states: there the tokens so far become the end of the prompt. The
scheduler, which is the same, still has the grammar read them.
"""

from concurrent.futures import Future
from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.v1.request import Request

RESUMED_IDS = "resumed_token_ids"
"""The name in `SamplingParams.extra_args` of the tokens to go on behind."""
GRAMMAR_IDS = "grammar_token_ids"
"""The name there of tokens at the end of the prompt that the request's grammar is to have read."""

_OURS = __name__.rpartition(".")[0]


def resumes_exactly(config: VllmConfig) -> bool:
    """Returns whether an engine of this configuration resumes requests as told here: with our own
    scheduler and worker, and one draw of the generator a token."""
    return (
        advances_grammars(config)
        and str(config.parallel_config.worker_cls).startswith(_OURS)
        and config.speculative_config is None
        and not config.model_config.use_fp64_gumbel
        and not config.use_v2_model_runner
    )


def advances_grammars(config: VllmConfig) -> bool:
    """Returns whether an engine of this configuration has grammars read tokens, by our own
    scheduler."""
    return str(config.scheduler_config.scheduler_cls).startswith(_OURS)


def resume(request: Request) -> None:
    """Gives a request that the scheduler is about to add the state of a preempted one, or its
    grammar alone that of one."""
    if ids := _ids(request.sampling_params, RESUMED_IDS):
        request.append_output_token_ids(ids)
        # Else vLLM asserts that the cache has no output of a new request.
        request.num_preemptions = 1
        # Else its metrics have none of this prefill, as of the second one of a preempted request.
        request.prefill_stats.set(request.num_tokens, 0, 0)
    else:
        ids = _ids(request.sampling_params, GRAMMAR_IDS)
    if ids and (structured := request.structured_output_request) is not None:
        structured.grammar = _advanced(structured._grammar, request.request_id, ids)


class ResumedStates(dict[str, Any]):
    """Takes the place of the `requests` of a V1 model runner, which has each request's state."""

    def __setitem__(self, request_id: str, state: Any) -> None:
        ids = _ids(state.sampling_params, RESUMED_IDS)
        if ids and not state.output_token_ids:
            state.output_token_ids.extend(ids)
            if state.generator is not None:
                for _ in ids:  # as vLLM's TopKTopPSampler.forward_cpu draws
                    torch.randint(0, 2**31, (1,), generator=state.generator, dtype=torch.long)
        super().__setitem__(request_id, state)


def _ids(params: Any, name: str) -> list[int]:
    extra_args = getattr(params, "extra_args", None)
    return (extra_args and extra_args.get(name)) or []


def _advanced(grammar: Any, request_id: str, ids: list[int]) -> "Future[Any]":
    """Returns the grammar once it has read the tokens. One that does not accept them ends the
    request as one that does not compile does."""
    advanced: Future[Any] = Future()

    def advance(given: "Future[Any]") -> None:
        try:
            compiled = given.result()
            if not compiled.accept_tokens(request_id, ids):
                raise ValueError("the grammar does not accept the tokens so far")
        except Exception as error:
            advanced.set_exception(error)
        else:
            advanced.set_result(compiled)

    if not isinstance(grammar, Future):
        compiled, grammar = grammar, Future()
        grammar.set_result(compiled)
    grammar.add_done_callback(advance)
    return advanced
