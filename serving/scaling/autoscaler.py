"""Decides on the replicas of one model whenever the routers have reported."""

from collections.abc import Mapping, Sequence

from serving.scaling import Decision, Scaler
from serving.scaling.moments import Moments, observed_at
from serving.scaling.record import Record
from serving.scaling.report import read
from serving.scaling.startup import StartupTime

PERIOD_S = 2.0
"""Time from one report of a router to the next, and from one decision to the next."""

Series = Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]
"""Named numbers from the routers, each as times and values by router."""


class Autoscaler:
    """Repeats its last decision until there is something new to decide by. A new instance, as after
    a restart of Serve's controller, first replays what the routers remember."""

    def __init__(self, model_id: str, scaler: Scaler, startup_s: float, record: Record) -> None:
        """`startup_s` is a first guess of the startup time, which is measured from then on."""
        self._model_id = model_id
        self._scaler = scaler
        self._startup = StartupTime(startup_s)
        self._moments = Moments(PERIOD_S)
        self._record = record
        self._decision: Decision | None = None

    def decide(self, up: int, target: int, series: Series, now_s: float) -> int:
        """The number of replicas to have up or starting. `target` is the number until now, of which
        `up` are up. Times are of the wall clock."""
        up = min(up, target)  # The excess is about to go, as during an update.
        starting = target - up
        self._startup.observe(up, starting, now_s)
        startup_s = self._startup.seconds(now_s)
        timed = read(self._model_id, series)
        observed = None
        for before_s, at_s in self._moments.pass_by(timed):
            observed = observed_at(
                timed, before_s, at_s, up=up, starting=starting, startup_s=startup_s
            )
            self._decision = self._scaler.decide(observed, at_s)
        if self._decision is None:
            return target
        if observed is not None:
            self._record.write(target, self._decision, observed)
        return self._decision.replicas
