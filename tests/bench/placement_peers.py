"""Other routers' placement, as in their sources and papers, on our ledger and our index.

They see the same load and the same cached tokens as ours, so that only the rule differs. Ties are
broken at random.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from serving.placement.load import ReplicaLoad
from serving.placement.work import Work

_BLOCK_TOKENS = 16
_LORA_THRESHOLD = 0.999


class _Peer:
    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def _least(self, candidates: Iterable[int], cost: Callable[[int], float]) -> int:
        costs = [(cost(i), i) for i in candidates]
        least = min(costs)[0]
        return self._random.choice([i for value, i in costs if value == least])


def _decays(decay: float, work: Work, loads: Sequence[ReplicaLoad]) -> list[float]:
    """A weight by load: 1 / (1 + decay * waiting prefill beyond the least, in prompts of this
    one)."""
    least = min(load.prefill_tokens for load in loads)
    prompt_tokens = max(work.prompt_tokens, 1)
    return [1 / (1 + decay * (load.prefill_tokens - least) / prompt_tokens) for load in loads]


class CacheAware(_Peer):
    """smg's `cache_aware` of 2026-08, by default with its defaults: the replica with the longest
    match if that is over half of the prompt, else the least loaded; and the least loaded too if the
    chosen one has over 32 requests and 10 % more than the mean. With `overlap_decay` a match counts
    the less the more prefill waits there than elsewhere. (smg-project/smg@f8daa883)
    """

    def __init__(self, overlap_decay: float = 0.0, seed: int = 0) -> None:
        super().__init__(seed)
        self._decay = overlap_decay

    def choose(
        self, work: Work, loads: Sequence[ReplicaLoad], cached_tokens: Sequence[int], now_s: float
    ) -> int:
        decays = _decays(self._decay, work, loads)
        least_loaded = self._least(range(len(loads)), lambda i: loads[i].requests)
        best = self._least(range(len(loads)), lambda i: -cached_tokens[i] * decays[i])
        if cached_tokens[best] * decays[best] <= 0.5 * work.prompt_tokens:
            return least_loaded
        mean = sum(load.requests for load in loads) / len(loads)
        requests = loads[best].requests
        return least_loaded if requests > mean + 32 and requests > 1.1 * mean else best


class AffinityFilter(_Peer):
    """llm-d's `prefix-cache-affinity-filter` with its token load: those with 80 % of the prompt
    cached, unless the best of them is expected to begin 18 s after the best other; of what is left
    the fewest uncached tokens in flight. (llm-d/llm-d-router@ebab6879)
    """

    def __init__(self, prefill_tokens_per_s: float, seed: int = 0) -> None:
        super().__init__(seed)
        self._penalty_tokens = 18 * prefill_tokens_per_s

    def choose(
        self, work: Work, loads: Sequence[ReplicaLoad], cached_tokens: Sequence[int], now_s: float
    ) -> int:
        tokens = [load.prefill_tokens for load in loads]
        sticky = [i for i in range(len(loads)) if cached_tokens[i] >= 0.8 * work.prompt_tokens]
        others = [i for i in range(len(loads)) if i not in set(sticky)]
        if not sticky:
            sticky = others
        elif others:
            penalty = min(tokens[i] for i in sticky) - min(tokens[i] for i in others)
            if penalty > self._penalty_tokens:
                sticky += others
        return self._least(sticky, lambda i: tokens[i])


class DynamoCost(_Peer):
    """Dynamo's KV router, by default with its defaults: blocks to prefill, reserved and own, less
    the cached ones, plus blocks of all sequences. With `decay` cached blocks count the less the
    more prefill waits there than elsewhere. (ai-dynamo/dynamo, lib/kv-router/src/scheduling)"""

    def __init__(self, decay: float = 0.0, seed: int = 0) -> None:
        super().__init__(seed)
        self._decay = decay

    def choose(
        self, work: Work, loads: Sequence[ReplicaLoad], cached_tokens: Sequence[int], now_s: float
    ) -> int:
        decays = _decays(self._decay, work, loads)

        def cost(i: int) -> float:
            credit_tokens = cached_tokens[i] * decays[i]
            prefill_tokens = max(loads[i].prefill_tokens + work.prompt_tokens - credit_tokens, 0)
            kv_tokens = loads[i].kv_tokens + loads[i].kv_tokens_of(work, cached_tokens[i])
            return prefill_tokens // _BLOCK_TOKENS + kv_tokens // _BLOCK_TOKENS

        return self._least(range(len(loads)), cost)


class RayPrefix(_Peer):
    """Ray Serve LLM's `PrefixCacheAffinityRouter` with its defaults: those with the longest match
    if that is 10 % of the prompt, else those with the smallest tree; of them the fewest requests.
    As meant: with direct streaming Ray 2.60 always takes the first.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._tree_tokens: dict[str, int] = defaultdict(int)

    def choose(
        self, work: Work, loads: Sequence[ReplicaLoad], cached_tokens: Sequence[int], now_s: float
    ) -> int:
        most = max(cached_tokens)
        if most >= 0.1 * work.prompt_tokens:
            candidates = [i for i in range(len(loads)) if cached_tokens[i] == most]
        else:
            trees = [self._tree_tokens[load.replica_id] for load in loads]
            candidates = [i for i in range(len(loads)) if trees[i] == min(trees)]
        chosen = self._least(candidates, lambda i: loads[i].requests)
        self._tree_tokens[loads[chosen].replica_id] += work.prompt_tokens - cached_tokens[chosen]
        return chosen


class LMetric(_Peer):
    """LMetric (arXiv 2603.15202): prefill tokens, reserved and own, times the batch that would
    result."""

    def choose(
        self, work: Work, loads: Sequence[ReplicaLoad], cached_tokens: Sequence[int], now_s: float
    ) -> int:
        def score(i: int) -> float:
            uncached = max(work.prompt_tokens - cached_tokens[i], 1)
            return (loads[i].prefill_tokens + uncached) * (loads[i].requests + 1)

        return self._least(range(len(loads)), score)


class LeastPrefill(_Peer):
    """LPWL, found better than LMetric by others: prefill tokens, reserved and own."""

    def choose(
        self, work: Work, loads: Sequence[ReplicaLoad], cached_tokens: Sequence[int], now_s: float
    ) -> int:
        def tokens(i: int) -> float:
            return loads[i].prefill_tokens + max(work.prompt_tokens - cached_tokens[i], 0)

        return self._least(range(len(loads)), tokens)


class LoraAffinity(_Peer):
    """The LoRA affinity of llm-d and the Gateway API's inference extension: those that run the
    adapter, else those with a slot for another one, at random with the threshold 0.999; of them the
    least loaded. They know what runs, not what is loaded.
    (kubernetes-sigs/gateway-api-inference-extension, lora_affinity)"""

    def choose(
        self, work: Work, loads: Sequence[ReplicaLoad], cached_tokens: Sequence[int], now_s: float
    ) -> int:
        runs = [i for i, load in enumerate(loads) if work.adapter in load.running_adapters]
        fewest = min(len(load.running_adapters) for load in loads)
        others = [i for i, load in enumerate(loads) if len(load.running_adapters) == fewest]
        candidates = runs if runs and self._random.random() < _LORA_THRESHOLD else others
        return self._least(candidates, lambda i: loads[i].kv_tokens)
