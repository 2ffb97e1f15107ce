"""Which replica a request goes to. Pure: no I/O, no clock, no Ray."""

from serving.placement.capacity import UNLIMITED, Capacity
from serving.placement.fleet import Fleet
from serving.placement.least_cost import LeastCost
from serving.placement.least_tokens import LeastTokens
from serving.placement.load import Booking, ReplicaLoad
from serving.placement.policy import Policy
from serving.placement.power_of_two import PowerOfTwo
from serving.placement.prefix import Prefix, prefix_of
from serving.placement.prefix_index import PrefixIndex
from serving.placement.prompt_parts import prompt_parts
from serving.placement.rates import Rates
from serving.placement.round_robin import RoundRobin
from serving.placement.session_hash import SessionHash
from serving.placement.work import Work

__all__ = [
    "UNLIMITED",
    "Booking",
    "Capacity",
    "Fleet",
    "LeastCost",
    "LeastTokens",
    "Policy",
    "PowerOfTwo",
    "Prefix",
    "PrefixIndex",
    "Rates",
    "ReplicaLoad",
    "RoundRobin",
    "SessionHash",
    "Work",
    "prefix_of",
    "prompt_parts",
]
