"""The deaths of engines, and their reasons."""

from dataclasses import dataclass
from typing import Literal

Reason = Literal["crash", "cuda_out_of_memory", "out_of_memory", "hang", "killed", "unreachable"]
"""What is known of a death:

- crash: an exception or a fault in native code ended the engine.
- cuda_out_of_memory, out_of_memory: the same, for want of a GPU's or the host's memory.
- hang: its steps made no progress, so it ended itself.
- killed: a process of it was killed, from outside or by the kernel for want of memory.
- unreachable: its process is gone or does not answer, so nothing is known.
"""

SELF_INFLICTED: frozenset[Reason] = frozenset(("crash", "hang"))
"""Reasons that lie in the last steps alone, and not in the load or in the machine."""

OF_THE_MACHINE: frozenset[Reason] = frozenset(("killed", "unreachable"))
"""Reasons that are more often the machine's or an operator's doing than a request's."""


@dataclass(frozen=True, slots=True)
class Death:
    """The death of a replica's engine."""

    replica_id: str
    reason: Reason
    of: int | None
    """How many requests were in its last steps; None if the engine has not said it."""
