"""The limit on failed authentications from one address."""

import pytest

from serving.tenants.failure_throttle import BURST, PERIOD_S, FailureThrottle


def failures(throttle: FailureThrottle, address: str, now_s: float, count: int) -> list[int]:
    return [throttle.failed(address, now_s) for _ in range(count)]


def test_after_a_burst_one_failure_a_period_is_within_the_limit() -> None:
    throttle = FailureThrottle()
    assert failures(throttle, "10.0.0.1", 1000, BURST) == [0] * BURST
    assert throttle.failed("10.0.0.1", 1000) == PERIOD_S
    assert throttle.failed("10.0.0.1", 1000 + PERIOD_S - 0.5) == 1
    assert failures(throttle, "10.0.0.1", 1000 + PERIOD_S, 2) == [0, PERIOD_S]
    idle_s = 1000 + (BURST + 2) * PERIOD_S
    assert failures(throttle, "10.0.0.1", idle_s, BURST + 1) == [0] * BURST + [PERIOD_S]


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "10.0.0.1", False),
        ("no:address", "no:other", False),
    ],
)
def test_an_address_is_what_one_client_has(one: str, other: str, are_one: bool) -> None:
    throttle = FailureThrottle()
    failures(throttle, one, 0, BURST)
    assert bool(throttle.failed(other, 0)) is are_one


def test_only_the_addresses_that_failed_last_are_remembered() -> None:
    throttle = FailureThrottle(max_addresses=2)
    failures(throttle, "10.0.0.1", 0, BURST)
    failures(throttle, "10.0.0.2", 0, BURST)
    assert throttle.failed("10.0.0.1", 0) > 0
    throttle.failed("10.0.0.3", 0)
    assert throttle.failed("10.0.0.1", 0) == 0
