"""How many replicas: the work that is offered, over what a replica does."""

import math
from dataclasses import dataclass

from serving.scaling.decision import Decision
from serving.scaling.observed import Observed


@dataclass(frozen=True, slots=True)
class ScalingConfig:
    min_replicas: int
    max_replicas: int


class ScalingPolicy:
    def __init__(self, config: ScalingConfig) -> None:
        self._config = config

    def decide(self, observed: Observed, now_s: float) -> Decision:
        value = observed.offered_prefill_tokens_per_s
        target = observed.prefill_tokens_per_s
        replicas = math.ceil(value / target)
        replicas = min(max(replicas, self._config.min_replicas), self._config.max_replicas)
        return Decision(replicas, "prefill", value, target)
