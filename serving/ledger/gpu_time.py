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

import msgspec

from serving.ledger.tokens import Tokens


class Pace(msgspec.Struct, frozen=True):
    """How fast a replica works, and its number of GPUs."""

    gpus: int
    prefill_ms_per_token: float
    step_ms: float
    """The time of a decode step without any context."""
    step_ms_per_context_token: float


def gpu_seconds(tokens: Tokens, pace: Pace, sequences: float) -> float:
    """Returns the GPU-seconds of one request; `sequences` is the mean number that the replica
    decodes at a time, this one included."""
    prefill_ms = (tokens.input - tokens.cached) * pace.prefill_ms_per_token
    mean_context = tokens.input + tokens.generated / 2
    step_ms = pace.step_ms / max(sequences, 1.0) + pace.step_ms_per_context_token * mean_context
    return pace.gpus * (prefill_ms + tokens.generated * step_ms) / 1000
