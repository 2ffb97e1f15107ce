"""Placement by cost in milliseconds."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from serving.placement.load import ReplicaLoad, remaining_prefill_ms
from serving.placement.load_table import Column, Columns, columns_of
from serving.placement.work import Work

FIRST_TOKEN_WEIGHT = 8.0
"""How much the time until a request's first token counts, found by simulating 8 replicas under four
loads, from idle to past saturation. With a lower weight prefixes spread and are prefilled more
often: a lightly loaded fleet gets 98 % of the possible hits, with a weight of 5 only 95 %. With a
higher weight prefixes stay together at the price of uneven batches: the fullest replicas are too
slow before the others are full."""
NEAR = 0.1
"""Costs within this part of the lowest count as equal, as the rates are not known more precisely.
Found by the same simulations."""
_ADAPTER_WEIGHT = 24.0


class LeastCost:
    """Chooses the replica where a request costs the least time, its own and the others' there, in
    ms:

    - until its first token: the prefill booked there and its own uncached prefill, times
      `FIRST_TOKEN_WEIGHT`;
    - where its adapter is not loaded, the time that this takes, times `_ADAPTER_WEIGHT`: it drops
      another adapter, which is loaded again later;
    - where the KV cache or the batch is full, the wait for headroom, which is known less well;
    - the delay of the others by its prefill, all of it for each of them, as those that still wait
      will decode by then;
    - the cost of decoding together: a step reads the context of all sequences, so the request and
      the others delay each other, for each token of its answer.

    Counting the others' delays balances affinity against load: a replica with a hot prefix loses
    requests to the next one as soon as that costs less, and a fresh one gets work at once. The
    busier the fleet, the more a cached prompt counts.

    Among costs within `NEAR` of the lowest the most cached wins, then the fewest requests, then the
    least recently booked, so that an idle fleet's caches fill evenly.

    As the load is balanced, an overloaded fleet is slow everywhere: admission must reject the
    excess.
    """

    def choose(
        self, work: Work, loads: Sequence[ReplicaLoad], cached_tokens: Sequence[int], now_s: float
    ) -> int:
        if not loads:
            raise ValueError("no replica to choose from")
        columns = columns_of(loads)
        cached = np.asarray(cached_tokens)
        context_tokens = work.prompt_tokens + work.output_tokens
        requests = columns[Column.REQUESTS]

        prefill_ms = np.maximum(work.prompt_tokens - cached, 0)
        prefill_ms = prefill_ms * columns[Column.PREFILL_MS_PER_TOKEN]
        costs_ms = prefill_ms * (FIRST_TOKEN_WEIGHT + requests)
        costs_ms += FIRST_TOKEN_WEIGHT * self._booked_prefill_ms(columns, loads, now_s)
        read_tokens = columns[Column.CONTEXT_TOKENS] + requests * context_tokens
        costs_ms += work.output_tokens * columns[Column.STEP_MS_PER_CONTEXT_TOKEN] * read_tokens
        if work.adapter:
            for i, load in enumerate(loads):
                if not load.has_adapter(work.adapter):
                    costs_ms[i] += _ADAPTER_WEIGHT * load.adapter_load_ms
        without_headroom = columns[Column.FREE_KV_TOKENS] < context_tokens
        if without_headroom.any():
            for i in without_headroom.nonzero()[0]:
                costs_ms[i] += loads[i].headroom_wait_ms(work, cached_tokens[i])

        near = (costs_ms <= costs_ms.min() * (1 + NEAR)).nonzero()[0]
        if len(near) > 1:
            of_near = cached[near]
            near = near[of_near == of_near.max()]
        if len(near) > 1:
            of_near = requests[near]
            near = near[of_near == of_near.min()]
        return int(near[columns[Column.BOOKED_S][near].argmin()])

    @staticmethod
    def _booked_prefill_ms(
        columns: Columns, loads: Sequence[ReplicaLoad], now_s: float
    ) -> npt.NDArray[np.float64]:
        """Computes `ReplicaLoad.prefill_ms` for all loads at once."""
        waits = columns[Column.WAITS]
        behind_ms, first_ms = columns[Column.BEHIND_MS], columns[Column.FIRST_MS]
        left_ms: npt.NDArray[np.float64] = remaining_prefill_ms(
            behind_ms, first_ms, columns[Column.FIRST_BEGAN_S], now_s
        )
        left_ms *= waits != 0
        if waits.min() < 0:
            for i in (waits < 0).nonzero()[0]:
                left_ms[i] = loads[i].prefill_ms(now_s)
        return left_ms
