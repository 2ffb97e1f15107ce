"""Decides on the number of routers."""

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil

from serving.scaling.config import RouterScalingConfig
from serving.scaling.router_load import SHORT, RouterLoad


@dataclass(frozen=True, slots=True)
class RouterDecision:
    replicas: int
    """Number of routers to have up or starting, without those that drain."""
    resource: str = ""
    """The field of RouterLoad that asks for most; empty if no router has reported."""
    used: float = 0.0
    """What all routers together use of it; 1 is all that one can carry."""


class RouterScalingPolicy:
    """Scales up at once, to the number of routers of which none is short if the load is even, and
    down once fewer have been enough for a while.

    A router that is used up hides how much more would come, so that each step up can be followed by
    another when the new routers report.
    """

    def __init__(self, config: RouterScalingConfig) -> None:
        self._config = config
        self._needed: deque[tuple[float, int]] = deque()
        """Times and the number of routers needed then."""
        self._began_s: float | None = None

    def decide(self, loads: Sequence[RouterLoad], target: int, now_s: float) -> RouterDecision:
        """Decides by the loads of the routers that are up. `target` is the number until now.
        Nothing changes without reports, and no router goes before the policy has seen `idle_s`."""
        if not loads:
            return RouterDecision(target)
        if self._began_s is None:
            self._began_s = now_s
        totals = {name: sum(asdict(load)[name] for load in loads) for name in asdict(loads[0])}
        resource, used = max(totals.items(), key=lambda total: total[1])
        self._needed.append((now_s, ceil(used / SHORT - 1e-9)))
        while self._needed[0][0] < now_s - self._config.idle_s:
            self._needed.popleft()
        replicas = max(needed for _, needed in self._needed)
        if now_s - self._began_s < self._config.idle_s:
            replicas = max(replicas, target)
        least, most = self._config.min_replicas, self._config.max_replicas
        return RouterDecision(max(least, min(most, replicas)), resource, used)
