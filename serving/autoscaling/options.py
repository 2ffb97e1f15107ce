"""Serve's options for deployments of which the number of replicas is decided here."""

import warnings
from typing import Any

from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from serving.autoscaling.autoscaler import PERIOD_S
from serving.scaling import ScalingConfig

_REMEMBERED_S = 60.0
"""Reports that a router keeps for a controller that starts again."""


def of_routers(replicas: int) -> dict[str, Any]:
    """So many always: Serve asks for reports only where it might scale."""
    policy = AutoscalingPolicy(  # type: ignore[no-untyped-call]
        policy_function="serving.autoscaling.policies:RouterPolicy"
    )
    with warnings.catch_warnings():
        # Serve's other way to set the interval is in the environment of its own processes.
        warnings.simplefilter("ignore", DeprecationWarning)
        config = AutoscalingConfig(
            min_replicas=replicas,
            max_replicas=replicas,
            metrics_interval_s=PERIOD_S,
            look_back_period_s=_REMEMBERED_S,
            policy=policy,
        )
    return {"autoscaling_config": config}


def of_model(model_id: str, config: ScalingConfig, startup_s: float) -> dict[str, Any]:
    """`startup_s`: a first guess of what a replica takes to start."""
    policy = AutoscalingPolicy(  # type: ignore[no-untyped-call]
        policy_function="serving.autoscaling.policies:ModelPolicy",
        policy_kwargs={
            "model_id": model_id,
            "startup_s": startup_s,
            **config.model_dump(),
        },
    )
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=config.min_replicas,
            max_replicas=config.max_replicas,
            policy=policy,
            upscale_delay_s=0,
            downscale_delay_s=0,
            downscale_to_zero_delay_s=0,
        )
    }
