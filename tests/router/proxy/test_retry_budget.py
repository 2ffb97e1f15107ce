from serving.router.proxy.retry_budget import RetryBudget


def retries(budget: RetryBudget, asked: int) -> int:
    return sum(budget.take() for _ in range(asked))


def test_a_dead_replicas_whole_batch_may_be_retried_at_once() -> None:
    assert retries(RetryBudget(ratio=0.2, reserve=60), 60) == 60


def test_in_an_outage_a_share_of_the_requests_is_retried() -> None:
    budget = RetryBudget(ratio=0.25, reserve=10)
    assert retries(budget, 20) == 10
    retried = 0
    for _ in range(400):
        budget.request()
        retried += retries(budget, 3)
    assert retried == 100


def test_quiet_times_save_no_more_than_the_reserve() -> None:
    budget = RetryBudget(ratio=0.5, reserve=10)
    for _ in range(1000):
        budget.request()
    assert retries(budget, 20) == 10
