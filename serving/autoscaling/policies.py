"""The policies that Ray Serve's controller asks, ten times a second.

Serve ships the classes of this module to its controller by value, so it holds no state: what it
imports is shared with the others there, what it defines would be a copy.
"""

import logging
from typing import Any

from ray.serve.config import AutoscalingContext
from ray.util.metrics import Gauge

from serving.autoscaling import board
from serving.autoscaling.autoscaler import PERIOD_S, Autoscaler
from serving.autoscaling.record import Record
from serving.scaling import ScalingConfig, ScalingPolicy

_AFTER_AN_ERROR_S = 60.0


class RouterPolicy:
    """Of the Router deployment: passes on what the routers report, and changes nothing."""

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        board.publish(context.app_name or "", context.raw_metrics or {})
        return context.target_num_replicas, {}


class ModelPolicy:
    """Of the deployment of a model's engines."""

    def __init__(self, model_id: str, startup_s: float, **config: float) -> None:
        """`config`: as ScalingConfig."""
        scaler = ScalingPolicy(ScalingConfig(**config))  # type: ignore[arg-type]
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
                # It would keep Serve from all that it does for any application.
                logging.getLogger("ray.serve").exception(
                    "autoscaling %s: failed, and stays at %d replicas",
                    self._model_id,
                    context.target_num_replicas,
                )
                self._next_s = now_s + _AFTER_AN_ERROR_S
                self._replicas = None
        replicas = context.target_num_replicas if self._replicas is None else self._replicas
        return replicas, {}
