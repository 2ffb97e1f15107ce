"""What a scaling policy decides, and why."""

from dataclasses import dataclass
from typing import Literal

Signal = Literal["prefill", "waiting", "kv_cache", "batch", "requests"]
"""`requests` is for comparison: other policies count nothing else."""

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
"""What kept the decision from what the signal asks for; empty: nothing.

- `running_streams`: what runs would not fit the rest.
- `recent_need`: within the time that a replica takes to start, so many were needed.
- `one_drain`: fewer, but one after the other.
- `idle_time`: none, but the last stays for a while.
- `history`: too little was seen yet to say that fewer do.
"""


@dataclass(frozen=True, slots=True)
class Decision:
    replicas: int
    """To have up or starting; those that drain come on top."""
    signal: Signal
    """The one that asks for most."""
    value: float
    """Its demand that the decision goes by: tokens/s of prefill (`prefill`, `waiting`), tokens
    (`kv_cache`) or requests (`batch`, `requests`)."""
    target: float
    """How much of that a replica is to have."""
    bound: Bound = ""
