"""What vLLM counts of prompts: told by a real scheduler without a worker."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request

from serving.engine.vllm.resumed_requests import RESUMED_IDS
from serving.engine.vllm.scheduler import EngineScheduler
from serving.tiny import tiny_model_folder

_BLOCK = 16
_BLOCKS = 100
PROMPT = [*range(1000, 1050)]
DELIVERED = [*range(2000, 2020)]


class Scheduling:
    """An engine's scheduler, and its worker's answers."""

    def __init__(self) -> None:
        config = AsyncEngineArgs(
            str(tiny_model_folder("2501")), tokenizer_mode="mistral", config_format="mistral"
        ).create_engine_config()
        config.cache_config.num_gpu_blocks = _BLOCKS
        spec = FullAttentionSpec(_BLOCK, num_kv_heads=1, head_size=1, dtype=torch.float32)
        hash_fn = get_hash_fn_by_name(config.cache_config.prefix_caching_hash_algo)
        init_none_hash(hash_fn)
        self._hasher = get_request_block_hasher(_BLOCK, hash_fn)
        self._scheduler: Any = EngineScheduler(
            vllm_config=config,
            kv_cache_config=KVCacheConfig(_BLOCKS, [], [KVCacheGroupSpec(["layer"], spec)]),
            structured_output_manager=SimpleNamespace(executor=None, accept_tokens=lambda *_: True),
            block_size=_BLOCK,
            log_stats=True,
        )

    def prefill(self, id: str, delivered: Sequence[int] = ()) -> Any:
        """Returns what vLLM has counted of a prompt at the request's next token, its last."""
        params = SamplingParams(
            max_tokens=len(delivered) + 1, extra_args={RESUMED_IDS: [*delivered]}
        )
        request = Request(id, PROMPT, params, None, block_hasher=self._hasher)
        self._scheduler.add_request(request)
        step = self._scheduler.schedule()
        answered = ModelRunnerOutput([id], {id: 0}, [[7]])
        (output,) = self._scheduler.update_from_output(step, answered)[0].outputs
        return output.prefill_stats


@pytest.mark.full
def test_a_resumed_request_reads_its_prompt_and_the_answer_so_far() -> None:
    scheduling = Scheduling()
    assert scheduling.prefill("new").num_prompt_tokens == len(PROMPT)
    assert scheduling.prefill("resumed", DELIVERED).num_prompt_tokens == len(PROMPT + DELIVERED)
