"""Connects Ray Serve's autoscaling to `serving.scaling`: options for the deployments, and the
policies that Serve's controller calls with the routers' reports.

Serve pickles the policy classes by value into its controller, so this module holds no state: what
it imports is shared with the others there, what it defines would be a copy.
"""

import logging
import warnings
from typing import Any

from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy
from ray.util.metrics import Gauge

from serving.scaling import ScalingConfig, ScalingPolicy, board
from serving.scaling.autoscaler import PERIOD_S, Autoscaler
from serving.scaling.record import Record

_REMEMBERED_S = 60.0
"""How long a router keeps reports for a controller that restarts."""
_AFTER_AN_ERROR_S = 60.0


def router_options(replicas: int) -> dict[str, Any]:
    """Returns options of the Router deployment. The number of routers is fixed, but Serve collects
    reports only from deployments that might scale."""
    policy = AutoscalingPolicy(  # type: ignore[no-untyped-call]
        policy_function="serving.autoscaling:RouterPolicy"
    )
    with warnings.catch_warnings():
        # The alternative is an environment variable of Serve's own processes.
        warnings.simplefilter("ignore", DeprecationWarning)
        config = AutoscalingConfig(
            min_replicas=replicas,
            max_replicas=replicas,
            metrics_interval_s=PERIOD_S,
            look_back_period_s=_REMEMBERED_S,
            policy=policy,
        )
    return {"autoscaling_config": config}


def engine_options(model_id: str, config: ScalingConfig, startup_s: float) -> dict[str, Any]:
    """Returns options of a model's Engine deployment. `startup_s` is a first guess of a replica's
    start-up time."""
    policy = AutoscalingPolicy(  # type: ignore[no-untyped-call]
        policy_function="serving.autoscaling:EnginePolicy",
        policy_kwargs={"model_id": model_id, "startup_s": startup_s, **config.model_dump()},
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


class RouterPolicy:
    """Passes on the routers' reports, and never changes the number of routers."""

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        board.publish(context.app_name or "", context.raw_metrics or {})
        return context.target_num_replicas, {}


class EnginePolicy:
    """Decides the number of engines of a model. Serve's controller calls it ten times a second."""

    def __init__(self, model_id: str, startup_s: float, **config: float) -> None:
        """`config` has the fields of ScalingConfig."""
        scaler = ScalingPolicy(ScalingConfig.model_validate(config))
        self._model_id = model_id
        self._autoscaler = Autoscaler(model_id, scaler, startup_s, Record(model_id, Gauge))
        self._next_s = 0.0
        self._replicas: int | None = None

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        now_s = context.current_time or 0.0
        if now_s >= self._next_s or now_s < self._next_s - _AFTER_AN_ERROR_S:
            self._next_s = now_s + PERIOD_S / 4
            try:
                self._replicas = self._autoscaler.decide(
                    context.current_num_replicas,
                    context.target_num_replicas,
                    board.series(context.app_name or ""),
                    now_s,
                )
            except Exception:
                # An exception would stop Serve's control loop for every application.
                logging.getLogger("ray.serve").exception(
                    "autoscaling %s: failed, and stays at %d replicas",
                    self._model_id,
                    context.target_num_replicas,
                )
                self._next_s = now_s + _AFTER_AN_ERROR_S
                self._replicas = None
        replicas = context.target_num_replicas if self._replicas is None else self._replicas
        return replicas, {}
