"""Estimates the GPU time of a request.

A replica's prefill is serial, so a prompt takes `prefill_ms_per_token` for each token that was not
cached. A decode step of N sequences takes `fixed + each * context` (see `serving.placement.Rates`):
each sequence has 1/N of the fixed part, in which the weights are read, and its own part of the
context. Over an answer its context grows from the prompt to prompt and answer.

The rates are those that the router has learnt of the replica. N is the mean of the requests on the
replica at the beginning and the end of this one, which is the largest error: for an answer during
which the load rises and falls again it may be off by the ratio of the loads. The sum over all
requests is less than what a replica costs, by the time in which it waits.
"""

from serving.ledger.tokens import Tokens
from serving.placement import Rates


def gpu_seconds(tokens: Tokens, rates: Rates, gpus: int, sequences: float) -> float:
    """Returns the GPU-seconds of one request on a replica with these rates and that many GPUs;
    `sequences` is the mean number that it decodes at a time, this one included."""
    prefill_ms = (tokens.input - tokens.cached) * rates.prefill_ms_per_token
    mean_context = tokens.input + tokens.generated / 2
    step_ms = rates.step_ms(0) / max(sequences, 1.0)
    step_ms += rates.step_ms_per_context_token * mean_context
    return gpus * (prefill_ms + tokens.generated * step_ms) / 1000
