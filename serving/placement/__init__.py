"""Chooses the replica for each request. Pure: no I/O, no clock, no Ray."""

from serving.placement.capacity import UNLIMITED, Capacity
from serving.placement.fleet import Fleet
from serving.placement.least_cost import LeastCost
from serving.placement.load import Booking, ReplicaLoad
from serving.placement.policies import LeastTokens, Policy, PowerOfTwo, RoundRobin, SessionHash
from serving.placement.prefix import Prefix, prefix_of
from serving.placement.prefix_index import PrefixIndex
from serving.placement.prompt_parts import prompt_parts
from serving.placement.rates import Rates
from serving.placement.sessions import Session, Sessions
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
    "Session",
    "SessionHash",
    "Sessions",
    "Work",
    "prefix_of",
    "prompt_parts",
]
