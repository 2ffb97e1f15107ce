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
    "noise",
    "restart_cost",
    "one_drain",
    "history",
]
"""What kept the decision from what the signal asks for; empty: nothing."""


@dataclass(frozen=True, slots=True)
class Decision:
    replicas: int
    """To have up or starting; those that drain come on top."""
    signal: Signal
    """The one that asks for most."""
    value: float
    """Its demand, as it will be when a replica that is asked for now is up: tokens/s of prefill
    (`prefill`, `waiting`), tokens (`kv_cache`) or requests (`batch`, `requests`)."""
    target: float
    """How much of that a replica is to have."""
    bound: Bound = ""
