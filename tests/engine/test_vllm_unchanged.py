"""The functions of vLLM and mistral_common whose inside the engine relies on are unchanged."""

import hashlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from mistral_common.protocol.instruct.validator import MistralRequestValidator
from vllm.multimodal.hasher import MultiModalHasher
from vllm.sampling_params import SamplingParams
from vllm.v1.core.kv_cache_utils import generate_block_hash_extra_keys, get_request_block_hasher
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler
from vllm.v1.structured_output import StructuredOutputManager
from vllm.v1.structured_output.backend_guidance import GuidanceBackend
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from serving.engine.vllm.arguments import VERSION

KNOWN = {
    AsyncLLM.generate: (
        "closing its iteration must abort the request, unless it is finished",
        "5bd0ee90459b0e29",
    ),
    SamplingParams._validate_structured_outputs: (
        "it must check nothing without a config, and name the backend where it does",
        "ebca6891dea0cd50",
    ),
    StructuredOutputManager.grammar_init: (
        "it must take the backend that the request names, and give its executor one function and"
        " the request",
        "42855e27624b89df",
    ),
    StructuredOutputManager._create_grammar: (
        "it must make the same grammar of requests with the same key",
        "14a565e74b3a44ae",
    ),
    GuidanceBackend.compile_grammar: (
        "it must make a new matcher at each call, and need no stop tokens for it",
        "264c741ffceff04c",
    ),
    GPUModelRunner._update_states: (
        "it must put the state of a new request into `requests` before it reads its tokens",
        "326599f31b273b94",
    ),
    TopKTopPSampler.forward_cpu: (
        "it must draw of each generator once a token, as ResumedStates does",
        "6d05adf47d121861",
    ),
    GPUModelRunner._bookkeeping_sync: (
        "it must need the generator of an unfinished prefill for nothing but to turn it back",
        "13c3e81003a7e168",
    ),
    generate_block_hash_extra_keys: (
        "the first block's hash must follow from the salt",
        "fabb6e4b928af21a",
    ),
    get_request_block_hasher: (
        "each block's hash must follow from the one before it in the request's list",
        "68c195e3879cc4c2",
    ),
    Scheduler.add_request: (
        "it must be the first to read a request's block hashes",
        "fa2b51cd04a90977",
    ),
    MultiModalHasher.serialize_item.__func__: (
        "the hash of an image must follow from its io_config",
        "4787e706143db382",
    ),
    MistralRequestValidator._validate_function: (
        "it must check nothing but the name and the parameters of the function",
        "ee5a404cf2a352bf",
    ),
}
"""What must hold of each function of vLLM 0.32 and mistral_common, and the digest of its source."""


@pytest.mark.parametrize("thing", KNOWN, ids=lambda thing: thing.__qualname__)
def test_vllm_is_as_the_engine_needs_it(thing: Callable[..., Any]) -> None:
    what, known = KNOWN[thing]
    digest = hashlib.sha256(inspect.getsource(thing).encode()).hexdigest()[:16]
    assert digest == known, (
        f"{thing.__module__}.{thing.__qualname__} has changed since vLLM {VERSION} was taken; on it"
        f" serving/engine/vllm/ relies. Check that {what}; then its digest here is {digest}"
    )
