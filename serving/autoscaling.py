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

from serving.scaling import (
    RouterScalingConfig,
    RouterScalingPolicy,
    ScalingConfig,
    ScalingPolicy,
    board,
)
from serving.scaling.autoscaler import PERIOD_S, Autoscaler
from serving.scaling.record import Record
from serving.scaling.router_load import read_loads

_REMEMBERED_S = 60.0
"""How long a router keeps reports for a controller that restarts."""
_AFTER_AN_ERROR_S = 60.0


def router_options(replicas: int, config: RouterScalingConfig | None) -> dict[str, Any]:
    """Returns options of the Router deployment. Without a config the number of routers is fixed,
    but Serve collects reports only from deployments that might scale."""
    policy = AutoscalingPolicy(  # type: ignore[no-untyped-call]
        policy_function="serving.autoscaling:RouterPolicy",
        policy_kwargs={} if config is None else config.model_dump(),
    )
    with warnings.catch_warnings():
        # The alternative is an environment variable of Serve's own processes.
        warnings.simplefilter("ignore", DeprecationWarning)
        return {
            "autoscaling_config": AutoscalingConfig(
                min_replicas=replicas if config is None else config.min_replicas,
                max_replicas=replicas if config is None else config.max_replicas,
                metrics_interval_s=PERIOD_S,
                look_back_period_s=_REMEMBERED_S,
                policy=policy,
                upscale_delay_s=0,
                downscale_delay_s=0,
            )
        }


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


class _Policy:
    """Decides a few times in PERIOD_S, and repeats the decision at the other calls of Serve's
    controller, which makes ten a second."""

    _next_s = 0.0
    _replicas: int | None = None

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        now_s = context.current_time or 0.0
        if now_s >= self._next_s or now_s < self._next_s - _AFTER_AN_ERROR_S:
            self._next_s = now_s + PERIOD_S / 4
            try:
                self._replicas = self._decide(context, now_s)
            except Exception:
                # An exception would stop Serve's control loop for every application.
                logging.getLogger("ray.serve").exception(
                    "autoscaling %s: failed, and stays at %d replicas",
                    context.deployment_name,
                    context.target_num_replicas,
                )
                self._next_s = now_s + _AFTER_AN_ERROR_S
                self._replicas = None
        replicas = context.target_num_replicas if self._replicas is None else self._replicas
        return replicas, {}

    def _decide(self, context: AutoscalingContext, now_s: float) -> int:
        raise NotImplementedError


class RouterPolicy(_Policy):
    """Passes on the routers' reports, and decides the number of routers where it is not fixed."""

    def __init__(self, **config: float) -> None:
        """`config` has the fields of RouterScalingConfig; empty: the number is fixed."""
        self._scaler = None
        if config:
            self._scaler = RouterScalingPolicy(RouterScalingConfig.model_validate(config))

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        board.publish(context.app_name or "", context.raw_metrics or {})
        return super().__call__(context)

    def _decide(self, context: AutoscalingContext, now_s: float) -> int:
        before = context.target_num_replicas
        if self._scaler is None:
            return before
        loads = read_loads(board.series(context.app_name or ""), now_s)
        decision = self._scaler.decide(loads, before, now_s)
        if decision.replicas != before:
            logging.getLogger("ray.serve").info(
                "autoscaling routers: %d -> %d: together they use %.3g of the %s of one",
                before,
                decision.replicas,
                decision.used,
                decision.resource,
            )
        return decision.replicas


class EnginePolicy(_Policy):
    """Decides the number of engines of a model."""

    def __init__(self, model_id: str, startup_s: float, **config: float) -> None:
        """`config` has the fields of ScalingConfig."""
        scaler = ScalingPolicy(ScalingConfig.model_validate(config))
        self._autoscaler = Autoscaler(model_id, scaler, startup_s, Record(model_id, Gauge))

    def _decide(self, context: AutoscalingContext, now_s: float) -> int:
        return self._autoscaler.decide(
            context.current_num_replicas,
            context.target_num_replicas,
            board.series(context.app_name or ""),
            now_s,
        )
