from serving.scaling import Decision, Observed, ScalingConfig, ScalingPolicy
from serving.scaling.autoscaler import PERIOD_S, Autoscaler, Series
from serving.scaling.record import Record
from tests.scaling.gauges import Gauges
from tests.scaling.reports import timed

MODEL = "org/m"


class Seen:
    """Records its arguments, and decides on one replica more than there are."""

    def __init__(self) -> None:
        self.observed: list[Observed] = []

    def decide(self, observed: Observed, now_s: float) -> Decision:
        self.observed.append(observed)
        return Decision(observed.replicas + 1, "requests", 0, 1)


class Routers:
    """A router that reports every period, from a time on."""

    def __init__(self, began_s: float = 1000.0) -> None:
        self.now_s = began_s
        self.series: dict[str, dict[str, list[tuple[float, float]]]] = {}

    def report(self, **values: float) -> Series:
        for name, value in timed(self.now_s, **values).report.named(MODEL).items():
            self.series.setdefault(name, {}).setdefault("router", []).append((self.now_s, value))
        self.now_s += PERIOD_S
        return self.series


def test_without_reports_all_stays_as_it_is() -> None:
    scaler = Seen()
    autoscaler = Autoscaler(MODEL, scaler, 60, Record(MODEL, Gauges()))
    assert autoscaler.decide(1, 3, {}, 1000) == 3
    assert autoscaler.decide(1, 3, Routers().report(), 1000) == 3
    assert not scaler.observed


def test_a_decision_holds_until_there_is_something_new() -> None:
    routers, scaler = Routers(), Seen()
    autoscaler = Autoscaler(MODEL, scaler, 60, Record(MODEL, Gauges()))
    routers.report()
    assert autoscaler.decide(1, 1, routers.report(), 1002) == 2
    assert autoscaler.decide(1, 2, routers.series, 1002.1) == 2
    assert autoscaler.decide(1, 2, routers.report(), 1004) == 3
    assert [observed.starting for observed in scaler.observed] == [0, 1]


def test_those_beyond_the_target_do_not_raise_it() -> None:
    routers, scaler = Routers(), Seen()
    autoscaler = Autoscaler(MODEL, scaler, 60, Record(MODEL, Gauges()))
    routers.report()
    autoscaler.decide(5, 4, routers.report(), 1002)
    assert (scaler.observed[0].up, scaler.observed[0].starting) == (4, 0)


def test_the_time_to_start_is_measured() -> None:
    routers, scaler = Routers(), Seen()
    autoscaler = Autoscaler(MODEL, scaler, 60, Record(MODEL, Gauges()))
    autoscaler.decide(1, 1, {}, 900)
    autoscaler.decide(1, 2, {}, 910)
    autoscaler.decide(2, 2, {}, 995)
    routers.report()
    autoscaler.decide(2, 2, routers.report(), 1002)
    assert scaler.observed[0].startup_s == 85


def test_a_new_one_knows_what_the_routers_remember() -> None:
    """A restart of Serve's controller in the middle of a load changes nothing."""
    routers = Routers()
    for second in range(0, 62, 2):
        routers.report(offered_prefill_tokens=30_000 * second)
    policy = ScalingPolicy(ScalingConfig(max_replicas=10, prefill_utilization=0.8))
    gauges = Gauges()
    autoscaler = Autoscaler(MODEL, policy, 60, Record(MODEL, gauges))
    assert autoscaler.decide(4, 4, routers.series, routers.now_s) == 4
    assert gauges.values["mistral_serve_autoscaling_value", MODEL, "prefill"] == 30_000
    new = Autoscaler(
        MODEL,
        ScalingPolicy(ScalingConfig(max_replicas=10, prefill_utilization=0.8)),
        60,
        Record(MODEL, Gauges()),
    )
    assert new.decide(1, 1, routers.series, routers.now_s) == 4
