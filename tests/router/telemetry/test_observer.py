"""The status of the service as one router sees it."""

from datetime import UTC, datetime

import pytest

from serving.config import RouterConfig
from serving.dispatch.messages import Placed
from serving.placement import Capacity
from serving.router.http.authentication import Authentication
from serving.router.replicas.backend import Backend
from serving.router.replicas.directory import Directory
from serving.router.replicas.health import HealthCheck
from serving.router.replicas.model import Model
from serving.router.replicas.replica import ReplicaInfo
from serving.router.telemetry.latency import WINDOW_S
from serving.router.telemetry.observer import Observer
from serving.router.telemetry.request_record import Outcome, RequestRecord
from serving.router.telemetry.status import ModelStatus, Quantiles, Recent


class Service:
    """The service for one model, at a time that the test sets."""

    def __init__(self, model: Model) -> None:
        self.now_s = 0.0
        config = RouterConfig(placement="round_robin")
        self.directory = Directory([model], config, HealthCheck("token", 1))
        self.served = self.directory.models[model.model_id]
        self.observer = Observer(
            self.directory,
            config,
            Authentication(config),
            "router-0",
            lambda: 2,
            clock=lambda: self.now_s,
        )

    def model(self) -> ModelStatus:
        (model,) = self.observer.status({}).models.values()
        return model

    def recent(self) -> Recent:
        return self.model().recent

    def end(self, outcome: Outcome = "answered", **fields: object) -> None:
        record = RequestRecord(datetime.now(UTC), "id", "/v1/chat/completions", outcome)
        for name, value in fields.items():
            setattr(record, name, value)
        self.served.metrics.ended(record)


@pytest.fixture
def service() -> Service:
    return Service(Model("m"))


def test_what_is_recent_is_what_came_in_the_last_minute_or_two(service: Service) -> None:
    service.end(output_tokens=10)
    service.now_s = 30
    assert (service.recent().requests, service.recent().seconds) == (1, 30)
    service.now_s = WINDOW_S
    assert service.recent().requests == 1
    service.now_s += 20
    service.end(output_tokens=5)
    assert (service.recent().requests, service.recent().output_tokens) == (2, 15)
    service.now_s = 2 * WINDOW_S
    recent = service.recent()
    assert (recent.requests, recent.output_tokens, recent.seconds) == (1, 5, WINDOW_S)
    service.now_s = 3 * WINDOW_S
    assert service.recent().requests == 0


def test_outcomes_are_told_apart(service: Service) -> None:
    outcomes: tuple[Outcome, ...] = ("refused", "internal_error", "broken", "invalid", "answered")
    for outcome in outcomes:
        service.end(outcome)
    recent = service.recent()
    assert (recent.requests, recent.refused, recent.failed) == (5, 1, 2)


def test_the_hit_rate_is_of_the_tokens_of_all_prompts(service: Service) -> None:
    assert service.recent().hit_rate is None
    service.end(input_tokens=300, cached_tokens=240, expected_cached_tokens=150)
    service.end(input_tokens=100, cached_tokens=0, expected_cached_tokens=10)
    assert service.recent().hit_rate == 0.6
    assert service.recent().expected_hit_rate == 0.4


def test_times_are_quantiles_and_none_without_any(service: Service) -> None:
    assert service.recent().queue == Quantiles(None, None)
    service.end(queue_ms=250.0)
    queue = service.recent().queue
    assert queue.p50_s == pytest.approx(0.25, rel=0.03)
    assert queue.p99_s == pytest.approx(0.25, rel=0.03)


def test_the_load_is_that_of_the_cache_or_of_the_batch(service: Service) -> None:
    capacity = Capacity(kv_cache_tokens=1000, max_num_seqs=4)
    service.directory.update("m", [ReplicaInfo("r", "10.0.0.1", 4000, 8192, capacity)])
    service.served.receive("other", [Placed(1, "r", [], [], None, 50, 50, 0)])
    (replica,) = service.model().replicas
    assert (replica.load, replica.requests_in_flight, replica.tokens_in_flight) == (0.25, 1, 100)
    service.served.receive("other", [Placed(2, "r", [], [], None, 500, 100, 0)])
    (replica,) = service.model().replicas
    assert replica.load == 0.7


def test_what_an_external_server_does_not_report_is_none() -> None:
    service = Service(Model("m", backend=Backend("http://ollama:11434/v1", "small", 8192)))
    service.directory.update("m", [ReplicaInfo("ollama", "ollama", 11434, 8192)])
    service.end(input_tokens=100)
    (replica,) = service.model().replicas
    assert (replica.load, replica.kv_cache_tokens, replica.max_num_seqs) == (None, None, None)
    assert service.recent().hit_rate is None
