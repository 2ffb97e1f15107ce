"""Decides on the number of replicas. Pure: no I/O, no clock, no Ray."""

from serving.scaling.config import RouterScalingConfig, ScalingConfig
from serving.scaling.decision import Decision
from serving.scaling.observed import Observed
from serving.scaling.policy import ScalingPolicy
from serving.scaling.router_load import RouterLoad
from serving.scaling.router_policy import RouterScalingPolicy
from serving.scaling.scaler import Scaler

__all__ = [
    "Decision",
    "Observed",
    "RouterLoad",
    "RouterScalingConfig",
    "RouterScalingPolicy",
    "Scaler",
    "ScalingConfig",
    "ScalingPolicy",
]
