"""Records decisions: a line in the log of Serve's controller, and metrics."""

import logging
from typing import Protocol, get_args

from serving.scaling import Decision, Observed
from serving.scaling.decision import Bound, Signal

log = logging.getLogger("ray.serve")  # which has the controller's log file

_NAME = "mistral_serve_autoscaling"


class Gauge(Protocol):
    def set(self, value: float, tags: dict[str, str]) -> object: ...


class NewGauge(Protocol):
    """The constructor of `ray.util.metrics.Gauge`."""

    def __call__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> Gauge: ...


class Record:
    """Records the decisions for one model. A decision that changes the replicas is logged at INFO,
    others at DEBUG.
    """

    def __init__(self, model_id: str, new_gauge: NewGauge) -> None:
        self._model_id = model_id
        model = ("model",)
        self._replicas = new_gauge(
            f"{_NAME}_replicas", "Replicas that are to be up or starting.", model
        )
        self._value = new_gauge(
            f"{_NAME}_value",
            "Demand of the signal that decides, in tokens/s, tokens or requests.",
            (*model, "signal"),
        )
        self._target = new_gauge(
            f"{_NAME}_target", "What of it a replica is to take.", (*model, "signal")
        )
        self._bound = new_gauge(
            f"{_NAME}_bound",
            "1 for what keeps the decision from what the signal asks for.",
            (*model, "bound"),
        )
        self._startup = new_gauge(
            f"{_NAME}_startup_seconds", "That a replica takes to start, as measured.", model
        )

    def write(self, before: int, decision: Decision, observed: Observed) -> None:
        model = {"model": self._model_id}
        self._replicas.set(decision.replicas, model)
        self._startup.set(observed.startup_s, model)
        for signal in get_args(Signal):
            decides = signal == decision.signal
            tags = {**model, "signal": signal}
            self._value.set(decision.value if decides else 0.0, tags)
            self._target.set(decision.target if decides else 0.0, tags)
        for bound in filter(None, get_args(Bound)):
            self._bound.set(float(bound == decision.bound), {**model, "bound": bound})
        log.log(
            logging.DEBUG if decision.replicas == before else logging.INFO,
            "autoscaling %s: %d -> %d replicas: signal %s, value %.6g, target %.6g a replica, "
            "bound %s; up %d, starting %d, draining %d, running %.6g, waiting %.6g, startup %.4g s",
            self._model_id,
            before,
            decision.replicas,
            decision.signal,
            decision.value,
            decision.target,
            decision.bound or "none",
            observed.up,
            observed.starting,
            observed.draining,
            observed.running_requests,
            observed.waiting_requests,
            observed.startup_s,
        )
