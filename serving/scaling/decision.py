"""The decision of a scaling policy, and its reason."""

from dataclasses import dataclass
from typing import Literal

Signal = Literal["prefill", "waiting", "kv_cache", "batch", "requests"]
"""The quantity that asks for replicas. Only other policies, for comparison, count `requests`."""

Bound = Literal[
    "",
    "min_replicas",
    "max_replicas",
    "running_streams",
    "recent_need",
    "one_drain",
    "idle_time",
    "history",
]
"""The reason why a decision differs from what the signal asks for; empty if it does not.

- `running_streams`: the running requests would not fit fewer replicas.
- `recent_need`: this many were needed within the time that a replica takes to start.
- `one_drain`: replicas go one after the other.
- `idle_time`: the last replica stays for a while without work.
- `history`: too little has been seen to conclude that fewer are enough.
"""


@dataclass(frozen=True, slots=True)
class Decision:
    replicas: int
    """Number of replicas to have up or starting, without those that drain."""
    signal: Signal
    """The signal that asks for most."""
    value: float
    """Demand of the signal: tokens/s of prefill (`prefill`, `waiting`), tokens (`kv_cache`) or
    requests (`batch`, `requests`)."""
    target: float
    """The part of the demand that one replica is to take."""
    bound: Bound = ""
