import pytest

from serving.dispatch.messages import RetryIssued, RetryMessage, RetryRedeemed
from serving.dispatch.retries import RetryReservation, RetryReservations


def retry(key: int, *, retry_at_s: float = 10, priority: int = 5) -> RetryReservation:
    return RetryReservation(key, None, priority, 0.5, retry_at_s, expires_at_s=2 * retry_at_s)


def issued(*entries: RetryReservation) -> RetryReservations:
    retries = RetryReservations()
    for entry in entries:
        retries.issue(entry, 0)
    return retries


def test_what_is_issued_is_expected_by_priority() -> None:
    retries = issued(retry(1, priority=3), retry(2, priority=7))
    assert retries.expected_share(0) == pytest.approx(1.0)
    assert retries.expected_share(5) == pytest.approx(0.5)
    assert retries.expected_share(8) == 0


def test_one_is_found_by_its_key_until_it_is_redeemed() -> None:
    entry = retry(1)
    retries = issued(entry)
    assert retries.find(1, 5) is entry
    assert retries.find(2, 5) is retries.find(None, 5) is None
    retries.redeem(entry)
    assert retries.find(1, 5) is None
    assert retries.expected_share(0) == 0


def test_equal_requests_have_one_each() -> None:
    first, second = retry(1), retry(1)
    retries = issued(first, second)
    assert retries.find(1, 5) is first
    retries.redeem(first)
    assert retries.find(1, 5) is second


def test_it_expires_when_nobody_comes() -> None:
    entry = retry(1, retry_at_s=10)
    retries = issued(entry)
    assert retries.find(1, 19.9) is entry
    assert retries.find(1, 20) is None
    assert (len(retries), retries.expected_share(0)) == (0, 0)


def test_where_nobody_comes_back_few_are_expected() -> None:
    retries = RetryReservations()
    for key in range(200):
        retries.issue(retry(key, retry_at_s=1), 0)
        retries.find(None, key + 1000)
    retries.issue(retry(1000), 0)
    assert retries.expected_share(0) < 0.5 * 0.05
    assert retries.expected < 0.05


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.dispatch.retries._MOST", 100)
    assert len(issued(*(retry(key) for key in range(1000)))) == 100


def test_times_are_published_relative_to_now() -> None:
    messages: list[RetryMessage] = []
    retries = RetryReservations(messages.append)
    entry = retry(1, retry_at_s=10)
    retries.issue(entry, 4)
    retries.redeem(entry)
    assert messages == [RetryIssued(1, 5, 6, 16), RetryRedeemed(1)]


def test_what_another_router_issued_is_known_but_not_expected_here() -> None:
    retries = RetryReservations()
    retries.receive(RetryIssued(key=1, priority=5, retry_in_s=10, expires_in_s=20), 100)
    found = retries.find(1, 100)
    assert found is not None and found.retry_at_s == 110
    assert (retries.expected_share(0), retries.expected) == (0, 0)
    assert retries.find(1, 120) is None


def test_what_was_redeemed_elsewhere_is_expected_no_more() -> None:
    retries = issued(retry(1), retry(2))
    retries.receive(RetryRedeemed(1), 5)
    retries.receive(RetryRedeemed(3), 5)
    assert retries.find(1, 5) is None
    assert retries.expected_share(0) == pytest.approx(0.5)
