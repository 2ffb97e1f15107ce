"""Refuses what vLLM's model runner V2, the one on GPUs, has no room for: it finds that in the
engine's own process, which ends with the error."""

import vllm.envs
from vllm.sampling_params import SamplingParams
from vllm.tokenizers import TokenizerLike
from vllm.v1.worker.gpu.sample.logit_bias import (
    MAX_NUM_ALLOWED_TOKEN_IDS,
    MAX_NUM_LOGIT_BIAS_TOKENS,
    MAX_NUM_STOP_TOKEN_IDS,
)

from serving.answers.vocabulary import Vocabulary
from serving.engine.vllm.constraints import logit_bias
from serving.mistral.rules import InvalidRequest
from serving.requests.request import Request


def check_limits(request: Request, vocabulary: Vocabulary, tokenizer: TokenizerLike) -> None:
    """Raises InvalidRequest for a request with more of something than the model runner takes, and
    what vLLM raises for words that it refuses. The limits hold with any model runner, so that what
    one engine takes does not end another."""
    given = request.sampling
    if len(given.allowed_token_ids or ()) > MAX_NUM_ALLOWED_TOKEN_IDS:
        raise _too_many("allowed_token_ids", "token ids", MAX_NUM_ALLOWED_TOKEN_IDS)
    bias, own = logit_bias(request, vocabulary) or {}, given.logit_bias or {}
    if len(bias) > MAX_NUM_LOGIT_BIAS_TOKENS:
        # The engine's own, if there is one, is of the token that begins a call.
        raise _too_many("logit_bias", "tokens", MAX_NUM_LOGIT_BIAS_TOKENS - len(bias) + len(own))
    if given.min_tokens and len({*(given.stop_token_ids or ()), vocabulary.eos}) > (
        MAX_NUM_STOP_TOKEN_IDS
    ):
        raise _too_many("stop_token_ids", "token ids beside min_tokens", MAX_NUM_STOP_TOKEN_IDS - 1)
    if given.bad_words:
        params = SamplingParams(bad_words=given.bad_words)
        params.update_from_tokenizer(tokenizer)
        tokens = sum(map(len, params.bad_words_token_ids or ()))
        if tokens > vllm.envs.VLLM_MAX_BAD_WORDS_TOTAL_TOKENS:
            raise InvalidRequest(
                "bad_words must have at most "
                f"{vllm.envs.VLLM_MAX_BAD_WORDS_TOTAL_TOKENS} tokens together, counted with and "
                f"without a space before each word; they have {tokens}.",
                param="bad_words",
            )


def _too_many(field: str, what: str, limit: int) -> InvalidRequest:
    return InvalidRequest(f"{field} must have at most {limit} {what}.", param=field)
