"""Placement by cost in milliseconds."""

from collections.abc import Sequence

from serving.placement.load import ReplicaLoad
from serving.placement.work import Work


class LeastCost:
    """Where the request costs the least time, its own and that of the others there, in ms:

    - until its first token: the prefill booked there, and its own that is not cached; times
      `first_token_weight`;
    - where the KV cache or the batch is full, the wait for room, of which less is known;
    - what its prefill delays the sequences that decode there: each by all of it;
    - what decoding beside the others costs: a step reads the context of all its sequences, so it
      delays them and they delay it, for each token of its answer; times `decode_weight`.

    The others' delays make affinity a matter of each candidate: a replica with a hot prefix loses
    requests to the next one as soon as that costs less, and a fresh one gets work at once. The
    busier the fleet, the more its time is worth, and the more a cached prompt counts.

    Costs within `near` of the lowest count as equal, as the rates are not known better. Of
    these the most cached wins, then the fewest requests, then the one not booked for longest, so
    that an idle fleet's caches fill evenly.

    The weights were found by simulation of 8 replicas under four loads, from idle to past
    saturation. With a lower one for the first token it comes later where prompts are long and
    little is cached. With a higher one, or a lower one for decoding, prefixes stay together at the
    price of uneven batches: the fullest replicas are too slow before the others are full. With a
    higher one for decoding prefixes spread, and are prefilled more often. As the load is even, a
    fleet that is asked for too much is slow everywhere: it is for admission to refuse what is over.
    """

    def __init__(
        self, first_token_weight: float = 10.0, decode_weight: float = 1.0, near: float = 0.1
    ) -> None:
        self.first_token_weight = first_token_weight
        self.decode_weight = decode_weight
        self.near = near

    def choose(
        self,
        work: Work,
        loads: Sequence[ReplicaLoad],
        cached_tokens: Sequence[int],
        now_s: float,
    ) -> int:
        prompt_tokens = work.prompt_tokens
        context_tokens = prompt_tokens + work.output_tokens
        first_token_weight = self.first_token_weight
        decode_weight = self.decode_weight * work.output_tokens
        costs_ms = []
        for load, cached in zip(loads, cached_tokens, strict=True):
            rates = load.rates
            prefill_ms = max(prompt_tokens - cached, 0) * rates.prefill_ms_per_token
            cost_ms = prefill_ms * (first_token_weight + load.decoding)
            if load.requests:
                cost_ms += first_token_weight * load.prefill_ms(now_s)
                read_tokens = load.context_tokens + load.requests * context_tokens
                cost_ms += decode_weight * rates.step_ms_per_context_token * read_tokens
                if (
                    load.kv_tokens + context_tokens > load.kv_capacity_tokens
                    or load.requests >= load.max_sequences
                ):
                    cost_ms += load.room_ms(work, cached)
            costs_ms.append(cost_ms)
        near_ms = min(costs_ms) * (1 + self.near)
        near = [i for i, cost_ms in enumerate(costs_ms) if cost_ms <= near_ms]
        if len(near) == 1:
            return near[0]
        return min(near, key=lambda i: (-cached_tokens[i], loads[i].requests, loads[i].booked_s))
