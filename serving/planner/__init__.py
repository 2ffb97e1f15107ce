"""Plans what a model needs to serve given traffic: by formula, then checked by the simulator.
Pure."""

from serving.planner.plan import Impossible, Plan, plan
from serving.planner.traffic import Traffic, made_up, recorded

__all__ = ["Impossible", "Plan", "Traffic", "made_up", "plan", "recorded"]
