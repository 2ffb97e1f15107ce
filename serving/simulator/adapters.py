"""LoRA adapters of a simulated load, and which of them each simulated engine has loaded."""

import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from pydantic import Field

from serving.section import Section
from serving.simulator.request import each_turn
from serving.simulator.resample import other_text
from serving.simulator.workload import Arrival

_ADAPTER = 1 << 40
"""Distance between the hashes of the same text under two adapters."""


class AdaptersConfig(Section):
    """Adapters that requests ask for, and the room for them in each replica."""

    count: int = Field(ge=1)
    skew: float = Field(ge=0, default=1.0)
    """The exponent of Zipf's law by which requests choose; 0: all as often."""
    max_loras: int = Field(ge=1, default=8)
    """Adapters that run on a replica at a time."""
    resident: int = Field(ge=1, default=32)
    """Adapters that a replica has loaded at most."""
    load_ms: float = Field(ge=0, default=500)
    """The time of a load."""


def with_adapters(
    arrivals: Iterable[Arrival], config: AdaptersConfig, seed: int
) -> Iterator[Arrival]:
    """Yields the arrivals, each with an adapter, which all turns of a conversation share."""
    dice = random.Random(seed)
    weights = [(rank + 1) ** -config.skew for rank in range(config.count)]
    totals = list(itertools.accumulate(weights))
    numbers = range(config.count)
    for arrival in arrivals:
        (number,) = dice.choices(numbers, cum_weights=totals)
        request = other_text(arrival.request, (number + 1) * _ADAPTER)
        on_adapter = partial(replace, adapter=f"adapter-{number}")
        yield Arrival(arrival.at_s, each_turn(request, on_adapter))


class LoadedAdapters:
    """The adapters that each replica has, least recently used first."""

    def __init__(self, config: AdaptersConfig) -> None:
        self.loads = 0
        self._config = config
        self._ready_s: dict[str, dict[str, float]] = {}
        """When each adapter is loaded, by replica and adapter."""

    def resident(self, replica_id: str) -> frozenset[str]:
        return frozenset(self._ready_s.get(replica_id, ()))

    def ready_s(self, replica_id: str, adapter: str, now_s: float) -> float:
        """Returns when a request that was sent now has its adapter, which is loaded if it is not
        there."""
        loaded = self._ready_s.setdefault(replica_id, {})
        at_s = loaded.pop(adapter, None)
        if at_s is None:
            self.loads += 1
            at_s = now_s + self._config.load_ms / 1000
            while len(loaded) >= self._config.resident:
                del loaded[next(iter(loaded))]
        loaded[adapter] = at_s
        return max(at_s, now_s)
