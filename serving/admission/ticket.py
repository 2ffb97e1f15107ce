"""A request on its way through admission."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

PRIORITIES = 10
DEFAULT_PRIORITY = 5


@dataclass(frozen=True, slots=True)
class Demand:
    """What a request asks for."""

    kv_tokens: int
    """Of its prompt and its expected answer: what it will have booked on a replica."""
    priority: int = DEFAULT_PRIORITY
    """From 0 to 9; the higher goes first."""
    timeout_s: float | None = None
    """How long the client waits: for the answer, or for its first byte if it is streamed."""
    service_s: float = 0.0
    """The least of that which is spent on a replica, such as the prefill of an idle one."""
    key: int | None = None
    """The same for a request that is sent again, such as a hash of its body. Without one a client
    that was refused counts as a new one when it comes back.
    """
    choose: Callable[[Sequence[Any], float], int] | None = None
    """The index of the one of these replicas that it had best be placed on now, room or not. None:
    any with room will do."""


class Ticket:
    """A demand that was let in. It waits until `Admission.next` hands it out, and then holds its
    part of a replica until `Admission.end`.
    """

    __slots__ = (
        "arrived_at_s",
        "demand",
        "expires_at_s",
        "gone",
        "home",
        "order",
        "overtaken",
        "share",
    )

    def __init__(
        self, demand: Demand, order: int, share: float, arrived_at_s: float, expires_at_s: float
    ) -> None:
        self.demand = demand
        self.order = order
        """Of arrival."""
        self.share = share
        """Of a replica, see `Capacity.share`."""
        self.arrived_at_s = arrived_at_s
        self.expires_at_s = expires_at_s
        self.overtaken = 0
        """KV tokens that were let past it while it stood first."""
        self.home: Any = None
        """The replica that it waits for, if it does for one."""
        self.gone = False
        """It waits no more: placed, withdrawn or dismissed."""


Reason = Literal[
    "queue_full", "wait_too_long", "deadline_unreachable", "deadline_too_short", "no_replica"
]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not let in, or waits no longer, and when it would be worth to come back."""

    reason: Reason
    wait_s: float
    """That it would have had to wait from now on, as far as can be foreseen."""
    retry_after_s: int | None
    """None: it will never do, as it is."""
