"""Estimates by formula what a replica can take: the start of the search, and its bounds."""

import math
from dataclasses import dataclass
from typing import Literal

from serving.planner.objective import Objective
from serving.planner.traffic import Traffic
from serving.simulator.engine import EngineSpec

Bound = Literal["prefill", "bandwidth", "KV cache", "batch"]

_MEAN_OF_LIMIT = 0.75
"""Ratio of the mean to a limit that nearly all requests keep."""
_MOST_BUSY = 0.9
"""Largest share of a replica's time for prefill."""
_MOST_FULL = 0.9
"""Largest share of the KV cache that requests hold."""


@dataclass(frozen=True, slots=True)
class Operation:
    """The steady state of a replica at a rate. `prefill` is the share of its time for prefill,
    `kv_cache` the share that running requests hold, `itl_s` the time of a decode step and of the
    prefill that it waits for."""

    prefill: float
    running: float
    kv_cache: float
    step_s: float
    itl_s: float
    bound: Bound
    """The resource with the least headroom."""


def operation(spec: EngineSpec, traffic: Traffic, per_s: float) -> Operation | None:
    """The operation of a replica at a rate; None beyond its capacity."""
    time = spec.step_time
    prefill = per_s * prefill_s(spec, traffic)
    held_tokens = traffic.prompt_tokens + traffic.output_tokens / 2
    left = 1 - prefill
    if left <= 0:
        return None
    tokens_per_s = per_s * traffic.output_tokens / left
    idle_s = time.decode_s(1, 1, 0)
    each_s = time.kv_token_s * held_tokens + time.sequence_s
    # Little's law: running = tokens per s x step, and the step grows with what runs.
    if tokens_per_s * each_s >= 1:
        return None
    step_s = idle_s / (1 - tokens_per_s * each_s)
    running = tokens_per_s * step_s
    kv_cache = running * held_tokens / spec.kv_cache_tokens
    parts: dict[Bound, float] = {
        "prefill": 1 / left,
        "bandwidth": step_s / idle_s,
    }
    bound = max(parts, key=lambda name: parts[name])
    if kv_cache > _MOST_FULL:
        bound = "KV cache"
    elif running > spec.max_num_seqs:
        bound = "batch"
    return Operation(prefill, running, kv_cache, step_s, step_s / left, bound)


def prefill_s(spec: EngineSpec, traffic: Traffic) -> float:
    """The prefill time of a mean request."""
    cached_tokens = traffic.cached_tokens
    return spec.step_time.prefill_s(cached_tokens + traffic.uncached_tokens, cached_tokens)


def per_replica(spec: EngineSpec, traffic: Traffic, objective: Objective) -> float:
    """A rough number of requests per second that a replica serves within the objective."""
    low, high = 0.0, 1 / prefill_s(spec, traffic)
    for _ in range(40):
        middle = (low + high) / 2
        if _holds(spec, traffic, objective, middle):
            low = middle
        else:
            high = middle
    return low


def limit(spec: EngineSpec, traffic: Traffic, objective: Objective) -> str | None:
    """The reason why not even idle replicas could meet the objective."""
    time = spec.step_time
    if (over := traffic.longer_than(spec.context_tokens or spec.kv_cache_tokens)) > (
        1 - objective.share
    ):
        return f"context: {over:.1%} of the requests are longer than {spec.context_tokens:,} tokens"
    step_s = time.decode_s(1, 1, round(traffic.prompt_tokens))
    if step_s > objective.itl_s:
        return (
            f"bandwidth: a decode step takes {1000 * step_s:.1f} ms with one request, as it reads "
            f"all weights; {1000 * objective.itl_s:g} ms are asked for"
        )
    tokens = traffic.uncached_quantile(objective.share)
    if tokens is not None:
        cached_tokens = traffic.cached_tokens
        first_s = spec.step_time.prefill_s(cached_tokens + tokens, cached_tokens)
        first_s += spec.request_overhead_s
        if first_s > objective.ttft_s:
            return (
                f"prefill: {1 - objective.share:.2%} of the prompts have more than {tokens:,.0f} "
                f"tokens to read, which takes {first_s:.2f} s on an idle replica; "
                f"{objective.ttft_s:g} s are asked for"
            )
    return None


def _holds(spec: EngineSpec, traffic: Traffic, objective: Objective, per_s: float) -> bool:
    at = operation(spec, traffic, per_s)
    if at is None or at.prefill > _MOST_BUSY or at.kv_cache > _MOST_FULL:
        return False
    if at.running > spec.max_num_seqs or at.itl_s > _MEAN_OF_LIMIT * objective.itl_s:
        return False
    # as in a single server with exponential times
    waits_s = prefill_s(spec, traffic) / (1 - at.prefill) * math.log(1 / (1 - objective.share))
    return waits_s + spec.request_overhead_s <= objective.ttft_s
