"""Which blocks of vLLM's prefix cache requests of several salts share."""

from itertools import takewhile
from typing import Any

import pytest
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.request import Request

from serving.engine.vllm.public_prefixes import PublicPrefixes, salted_after

BLOCK = 16
PUBLIC = list(range(100))
"""Six whole blocks and four tokens."""
ALGORITHM = "sha256"


@pytest.fixture
def schedule() -> Any:
    """Returns a function that makes a request and returns its hashes as the engine's scheduler has
    them, with those of the tokens of its answer."""
    hash_fn = get_hash_fn_by_name(ALGORITHM)
    init_none_hash(hash_fn)
    hasher = get_request_block_hasher(BLOCK, hash_fn)
    prefixes = PublicPrefixes(ALGORITHM, BLOCK)

    def hashes(tokens: list[int], salt: str | None, answer: list[int] | None = None) -> list[bytes]:
        params = SamplingParams(max_tokens=100)
        request = Request("r", tokens, params, None, cache_salt=salt, block_hasher=hasher)
        prefixes.share(request)
        for token in answer or []:
            request.append_output_token_ids(token)
        return list(request.block_hashes)

    return hashes


def shared(some: list[bytes], others: list[bytes]) -> int:
    """Returns the number of blocks that both have, which must be the first ones of each."""
    assert len(set(some)) == len(some)
    equal = takewhile(lambda pair: pair[0] == pair[1], zip(some, others, strict=False))
    common = len(list(equal))
    assert len(set(some) & set(others)) == common
    return common


def test_a_tenant_shares_its_own_prompts_to_their_end(schedule: Any) -> None:
    prompt = PUBLIC + list(range(1000, 1100))
    for salt in ("0:a", salted_after(100, "a"), None):
        assert shared(schedule(prompt, salt), schedule([*prompt, *range(50)], salt)) == 12


def test_without_a_public_beginning_salts_share_nothing(schedule: Any) -> None:
    first = schedule(PUBLIC * 2, salted_after(0, "a"))
    for other in (salted_after(0, "b"), None):
        assert shared(first, schedule(PUBLIC * 2, other)) == 0


def test_salts_share_the_public_beginning_but_its_last_block(schedule: Any) -> None:
    first = schedule(PUBLIC * 2, salted_after(100, "a"))
    assert shared(first, schedule(PUBLIC * 2, salted_after(100, "b"))) == 5
    assert shared(first, schedule(PUBLIC * 2, None)) == 5


@pytest.mark.parametrize("public_tokens", [0, 15, 16, 31])
def test_a_beginning_of_less_than_two_blocks_is_not_shared(
    schedule: Any, public_tokens: int
) -> None:
    first, second = (schedule(PUBLIC, salted_after(public_tokens, salt)) for salt in "ab")
    assert shared(first, second) == 0


@pytest.mark.parametrize("more", range(BLOCK + 1))
def test_answers_are_shared_by_none_however_short_the_prompt_is(schedule: Any, more: int) -> None:
    """A prompt that ends within the block in which the public beginning ends has no whole block
    behind it: its answer fills that one."""
    prompt = PUBLIC + [7] * more
    answer = list(range(2000, 2040))
    first, second = (schedule(prompt, salted_after(100, salt), answer) for salt in "ab")
    assert shared(first, second) == 5
    assert first == schedule([*prompt, *answer], salted_after(100, "a"))


def test_prompts_without_a_cache_are_let_through(schedule: Any) -> None:
    assert schedule([1, 2], salted_after(100, "a")) == []
