"""The policies as Serve's controller calls them, without a cluster."""

import warnings
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from ray.serve._private.autoscaling_state import AutoscalingStateManager
from ray.serve._private.common import (
    DeploymentID,
    ReplicaID,
    ReplicaMetricReport,
    TimeStampedValue,
)
from ray.serve._private.config import DeploymentConfig, ReplicaConfig
from ray.serve._private.deployment_info import DeploymentInfo

from serving import autoscaling
from serving.scaling import RouterLoad, RouterScalingConfig, ScalingConfig, board
from serving.scaling.autoscaler import PERIOD_S
from tests.scaling.reports import timed

APP = "app"
MODEL = "org/m"
ROUTERS = DeploymentID("Router", APP)
ENGINES = DeploymentID("Engine-m", APP)


class Controller:
    """Serve's autoscaling state, its clock, and the replicas that it starts or stops."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        config: ScalingConfig,
        of_routers: RouterScalingConfig | None = None,
    ) -> None:
        self.now_s = 1000.0
        self.routers = 1
        self.of_routers = of_routers
        self.engines = self.target = config.min_replicas
        monkeypatch.setattr("ray.serve._private.autoscaling_state.time.time", lambda: self.now_s)
        self.config = config
        self._reports: dict[int, list[tuple[float, dict[str, float]]]] = {}
        self.restart()

    def restart(self) -> None:
        board._routers.clear()
        self._state = AutoscalingStateManager()  # type: ignore[no-untyped-call]
        self._state.register_deployment(
            ROUTERS, _info(autoscaling.router_options(1, self.of_routers)), 1
        )
        engines = _info(autoscaling.engine_options(MODEL, self.config, 60))
        self._state.register_deployment(ENGINES, engines, self.target)
        self._run_routers()

    def _run_routers(self) -> None:
        ids = [ReplicaID(f"r{i}", ROUTERS) for i in range(self.routers)]
        self._state.update_running_replica_ids(ROUTERS, ids)

    def report_routers(self, load: RouterLoad) -> int:
        """Has each router report this load, and starts or stops routers as is then decided."""
        self.now_s += PERIOD_S
        metrics = {
            name: [TimeStampedValue(self.now_s, value)] for name, value in load.named().items()
        }
        for replica in range(self.routers):
            self._state.record_request_metrics_for_replica(
                ReplicaMetricReport(ReplicaID(f"r{replica}", ROUTERS), metrics, self.now_s)
            )
        targets = {ENGINES: self.target, ROUTERS: self.routers}
        self.routers = self._state.get_decision_num_replicas(APP, targets)[ROUTERS]
        self._run_routers()
        return self.routers

    def report(self, **values: float) -> None:
        """Reports like a router: each time everything of the last minute."""
        self.now_s += PERIOD_S
        report = timed(self.now_s, **values).report
        reports = self._reports.setdefault(0, [])
        reports.append((self.now_s, report.named(MODEL)))
        reports[:] = [one for one in reports if one[0] > self.now_s - 60]
        metrics = {
            name: [TimeStampedValue(at_s, numbers[name]) for at_s, numbers in reports]
            for name in reports[0][1]
        }
        sent = ReplicaMetricReport(
            replica_id=ReplicaID("r0", ROUTERS), timestamp=self.now_s, metrics=metrics
        )
        self._state.record_request_metrics_for_replica(sent)

    def decide(self) -> int:
        running = [ReplicaID(f"e{i}", ENGINES) for i in range(self.engines)]
        self._state.update_running_replica_ids(ENGINES, running)
        for _ in range(3):
            decided = self._state.get_decision_num_replicas(
                APP, {ENGINES: self.target, ROUTERS: self.routers}
            )
            self.now_s += 0.1
        assert decided[ROUTERS] == self.routers
        self.target = decided[ENGINES]
        return self.target


def _info(options: dict[str, Any]) -> DeploymentInfo:
    return DeploymentInfo(
        deployment_config=DeploymentConfig(**options),
        replica_config=ReplicaConfig.create(lambda: None),
        start_time_ms=0,
        deployer_job_id="",
    )


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch) -> Iterator[Controller]:
    yield Controller(monkeypatch, ScalingConfig(min_replicas=0, max_replicas=4, idle_s=60))
    board._routers.clear()


def test_from_zero_and_up_and_back_to_zero(controller: Controller) -> None:
    controller.report()
    controller.report()
    assert controller.decide() == 0
    controller.report(waiting_requests=1, waiting_kv_tokens=10, waiting_prefill_tokens=8)
    assert controller.decide() == 1
    controller.engines = 1
    for period in range(40):
        controller.report(offered_prefill_tokens=period * PERIOD_S * 30_000)
        controller.decide()
    assert controller.target == 4
    controller.engines = 4
    counts = []
    for _ in range(200):
        controller.report(offered_prefill_tokens=40 * PERIOD_S * 30_000)
        counts.append(controller.decide())
        controller.engines = controller.target
    assert (counts[0], counts[-1]) == (4, 0)
    assert {before - after for before, after in pairwise(counts)} == {0, 1}


def test_a_restart_of_the_controller_changes_nothing(controller: Controller) -> None:
    controller.engines = controller.target = 4
    for period in range(60):
        controller.report(offered_prefill_tokens=period * PERIOD_S * 30_000)
        assert controller.decide() == 4
    controller.restart()
    assert controller.decide() == 4
    for period in range(60, 70):
        controller.report(offered_prefill_tokens=period * PERIOD_S * 30_000)
        assert controller.decide() == 4


def test_without_reports_nothing_changes(controller: Controller) -> None:
    controller.engines = controller.target = 3
    for _ in range(5):
        controller.now_s += 600
        assert controller.decide() == 3


def test_an_error_changes_nothing_and_stops_no_one_else(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    controller.engines = controller.target = 3
    monkeypatch.setattr("serving.scaling.autoscaler.read", fails)
    for _ in range(3):
        controller.report()
        assert controller.decide() == 3


def test_routers_follow_their_load_where_no_model_scales(monkeypatch: pytest.MonkeyPatch) -> None:
    scaling = RouterScalingConfig(min_replicas=1, max_replicas=3, idle_s=60)
    fixed = ScalingConfig(min_replicas=1, max_replicas=1)
    controller = Controller(monkeypatch, fixed, scaling)
    busy, idle = RouterLoad(event_loop=0.95), RouterLoad(event_loop=0.05)
    assert controller.report_routers(idle) == 1
    assert [controller.report_routers(busy) for _ in range(3)] == [2, 3, 3]
    counts = [controller.report_routers(idle) for _ in range(40)]
    assert counts[:20] == [3] * 20
    assert counts[-1] == 1


def test_serve_adds_no_delay_and_no_factor_of_its_own() -> None:
    config = autoscaling.engine_options("m", ScalingConfig(min_replicas=0, max_replicas=4), 120)[
        "autoscaling_config"
    ]
    assert (config.min_replicas, config.max_replicas) == (0, 4)
    assert config.upscale_delay_s == config.downscale_delay_s == 0
    assert config.downscale_to_zero_delay_s == 0
    assert config.get_upscaling_factor() == config.get_downscaling_factor() == 1
    # Otherwise a change of the config would start with that many.
    assert config.initial_replicas is None


def test_the_routers_are_as_many_as_configured() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = autoscaling.router_options(3, None)["autoscaling_config"]
    assert (config.min_replicas, config.max_replicas) == (3, 3)


@pytest.mark.parametrize(
    "config",
    [
        ScalingConfig(min_replicas=0, max_replicas=4, prefill_utilization=0.7, idle_s=30),
        ScalingConfig(max_replicas=1),
    ],
)
def test_the_policy_has_its_config_where_the_controller_reads_it(config: ScalingConfig) -> None:
    asked = DeploymentConfig(**autoscaling.engine_options("m", config, 120))
    sent = asked.to_proto_bytes()  # type: ignore[no-untyped-call]
    policy = DeploymentConfig.from_proto_bytes(sent).autoscaling_config.policy
    scaler = policy.get_policy()(**policy.policy_kwargs)._autoscaler._scaler
    assert scaler._config == config
