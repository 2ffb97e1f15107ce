"""What a router reports about a model, for autoscaling."""

from functools import partial

from serving.dispatch import Dispatcher, Limits, Outcome, Rejection, Request, Reservation
from serving.placement import Capacity, LeastCost, Rates, Work, prefix_of
from serving.placement.prompt_parts import Kind
from serving.scaling.report import Report

CAPACITY = Capacity(10_000, 4)


def request(text: str, prompt_tokens: int = 2000, key: int | None = None) -> Request:
    return Request(Work(prefix_of([(Kind.USER, text * 8000)]), prompt_tokens, 100), key=key)


class Model:
    def __init__(self, replicas: int = 1, max_waiting: int = 10) -> None:
        self.dispatcher = Dispatcher(
            LeastCost(),
            CAPACITY,
            Limits(max_waiting, max_wait_s=30, startup_s=1),
            now_s=0,
            first_rates=partial(Rates, prefill_tokens_per_s=5000),
        )
        self.update(replicas)

    def update(self, replicas: int) -> None:
        self.dispatcher.update({f"r{i}": CAPACITY for i in range(replicas)}, 0)

    def submit(self, text: str) -> Reservation:
        reservation = self.dispatcher.submit(request(text), 0)
        assert isinstance(reservation, Reservation)
        return reservation

    @property
    def report(self) -> Report:
        self.dispatcher.poll(0)
        return self.dispatcher.report()

    @property
    def waiting(self) -> tuple[float, float, float]:
        report = self.report
        return report.waiting_requests, report.waiting_kv_tokens, report.waiting_prefill_tokens


def test_what_is_cached_is_no_work() -> None:
    model = Model()
    model.submit("a")
    assert model.report.offered_prefill_tokens == 2000
    model.submit("a")
    assert model.report.offered_prefill_tokens < 2100
    model.submit("b")
    assert model.report.offered_prefill_tokens > 3900


def test_what_runs_is_in_the_ledger() -> None:
    model = Model()
    reservation = model.submit("a")
    assert (model.report.running_requests, model.report.running_kv_tokens) == (1, 2100)
    assert model.waiting == (0, 0, 0)
    model.dispatcher.release(reservation, Outcome.SERVED, 0)
    assert model.report.running_requests == 0


def test_who_waits_is_work_until_it_is_placed_or_leaves() -> None:
    model = Model(replicas=0)
    _, leaves = model.submit("a"), model.submit("b")
    assert model.waiting == (2, 4200, 4000)
    assert model.report.offered_prefill_tokens == 4000
    model.dispatcher.withdraw(leaves, 0)
    assert model.waiting == (1, 2100, 2000)
    model.update(1)
    assert model.waiting == (0, 0, 0)
    assert model.report.offered_prefill_tokens == 4000


def test_a_rejected_one_is_work_and_no_more_when_it_is_back() -> None:
    model = Model(replicas=0, max_waiting=0)
    for _ in range(2):
        assert isinstance(model.dispatcher.submit(request("a", key=1), 0), Rejection)
        assert model.report.offered_prefill_tokens == 2000
        assert model.report.waiting_requests == 1


def test_a_replica_that_is_gone_drains_until_its_requests_have_ended() -> None:
    model = Model()
    reservation = model.submit("a")
    model.update(0)
    assert (model.report.draining, model.report.running_requests) == (1, 0)
    model.dispatcher.release(reservation, Outcome.SERVED, 0)
    assert model.report.draining == 0


def test_rates_are_guessed_until_learnt_and_outlive_the_replicas() -> None:
    model = Model()
    assert model.report.prefill_tokens_per_s == 5000
    model.dispatcher.fleet.loads["r0"].rates.observe_first_token(2000, 1000)
    learnt = model.report.prefill_tokens_per_s
    assert learnt < 5000
    model.update(0)
    assert model.report.prefill_tokens_per_s == learnt


def test_a_replica_is_as_it_says() -> None:
    report = Model().report
    assert (report.kv_cache_tokens, report.max_num_seqs) == (10_000, 4)
    assert report.residence_time_s > 0
