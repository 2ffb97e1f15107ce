"""The policies by the names that a configuration has for them."""

from typing import Literal

from serving.placement.least_cost import LeastCost
from serving.placement.least_tokens import LeastTokens
from serving.placement.policy import Policy
from serving.placement.power_of_two import PowerOfTwo
from serving.placement.round_robin import RoundRobin
from serving.placement.session_hash import SessionHash

PolicyName = Literal["least_cost", "least_tokens", "power_of_two", "round_robin", "session_hash"]

_POLICIES: dict[PolicyName, type[Policy]] = {
    "least_cost": LeastCost,
    "least_tokens": LeastTokens,
    "power_of_two": PowerOfTwo,
    "round_robin": RoundRobin,
    "session_hash": SessionHash,
}

WAIT_FOR_CHOICE: frozenset[PolicyName] = frozenset({"least_cost", "session_hash"})
"""With these it matters where a request goes: one that has to wait does so for the replica of their
choice. With the others any that has room will do."""


def policy(name: PolicyName) -> Policy:
    """One of its own for each model, as some have a state."""
    return _POLICIES[name]()
