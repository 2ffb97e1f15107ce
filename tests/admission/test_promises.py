import pytest

from serving.admission.promises import Kept, Made, Promise, Promises


def promise(key: int, *, back_at_s: float = 10, priority: int = 5) -> Promise:
    return Promise(key, None, priority, 0.5, back_at_s, lapses_at_s=2 * back_at_s)


def test_what_is_promised_is_expected_by_priority() -> None:
    promises = Promises()
    promises.make(promise(1, priority=3))
    promises.make(promise(2, priority=7))
    assert promises.expected_share(0) == pytest.approx(1.0)
    assert promises.expected_share(5) == pytest.approx(0.5)
    assert promises.expected_share(8) == 0


def test_a_promise_is_found_by_its_key_until_it_is_kept() -> None:
    promises = Promises()
    made = promise(1)
    promises.make(made)
    assert promises.find(1) is made
    assert promises.find(2) is None
    promises.keep(made)
    assert promises.find(1) is None
    assert promises.expected_share(0) == 0


def test_equal_requests_have_a_promise_each() -> None:
    promises = Promises()
    first, second = promise(1), promise(1)
    promises.make(first)
    promises.make(second)
    assert promises.find(1) is first
    promises.keep(first)
    assert promises.find(1) is second


def test_a_promise_lapses_when_nobody_comes() -> None:
    promises = Promises()
    promises.make(promise(1, back_at_s=10))
    promises.lapse(19.9)
    assert len(promises) == 1
    promises.lapse(20)
    assert (len(promises), promises.expected_share(0), promises.find(1)) == (0, 0, None)


def test_where_nobody_comes_back_few_are_expected() -> None:
    promises = Promises()
    for key in range(200):
        promises.make(promise(key, back_at_s=1))
        promises.lapse(key + 1000)
    promises.make(promise(1000))
    assert promises.expected_share(0) < 0.5 * 0.05
    assert promises.expected < 0.05


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.admission.promises._LIMIT", 100)
    promises = Promises()
    for key in range(1000):
        promises.make(promise(key))
    assert len(promises) == 100


def test_what_another_router_promised_is_known_but_not_expected_here() -> None:
    promises = Promises()
    promises.hear(Made(key=1, priority=5, back_in_s=10, lapses_in_s=20), 100)
    found = promises.find(1)
    assert found is not None and found.back_at_s == 110
    assert (promises.expected_share(0), promises.expected) == (0, 0)
    promises.lapse(120)
    assert promises.find(1) is None


def test_a_promise_that_was_kept_elsewhere_is_expected_no_more() -> None:
    promises = Promises()
    promises.make(promise(1))
    promises.make(promise(2))
    promises.hear(Kept(1), 5)
    promises.hear(Kept(3), 5)
    assert promises.find(1) is None
    assert promises.expected_share(0) == pytest.approx(0.5)
