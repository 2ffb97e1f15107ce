"""The GPU-hours and cost of a day of traffic, with replicas that follow it."""

import math
from dataclasses import dataclass

_SLOTS = 24 * 60
_DAY_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Day:
    """One day of a rate that goes from the base to the peak and back as a cosine, with as many
    replicas at each moment as it needs."""

    gpu_hours: float
    requests: float
    prompt_tokens: float
    output_tokens: float
    cost: float | None
    cost_per_million_output_tokens: float | None
    cost_per_million_tokens: float | None
    """Cost per million tokens of prompts and answers together."""


def day(
    *,
    base_per_s: float,
    peak_per_s: float,
    base_replicas: int,
    peak_replicas: int,
    gpus: int,
    prompt_tokens: float,
    output_tokens: float,
    gpu_hour_price: float | None,
) -> Day:
    """Sums up a day. `gpus` is per replica; lengths are means."""
    shares = [(1 - math.cos(2 * math.pi * slot / _SLOTS)) / 2 for slot in range(_SLOTS)]
    more = peak_replicas - base_replicas
    replicas = sum(base_replicas + math.ceil(more * share - 1e-9) for share in shares)
    gpu_hours = replicas * gpus * 24 / _SLOTS
    requests = (base_per_s + peak_per_s) / 2 * _DAY_S
    outputs, prompts = requests * output_tokens, requests * prompt_tokens
    cost = None if gpu_hour_price is None else gpu_hours * gpu_hour_price
    return Day(
        gpu_hours,
        requests,
        prompts,
        outputs,
        cost,
        None if cost is None else 1e6 * cost / outputs,
        None if cost is None else 1e6 * cost / (outputs + prompts),
    )
