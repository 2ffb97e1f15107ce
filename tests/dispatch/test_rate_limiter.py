import heapq
import itertools
import random
from collections.abc import Callable
from functools import partial

import msgspec
import pytest

from serving.dispatch.messages import LimitMessage
from serving.dispatch.rate_limiter import Exceeded, Permit, RateLimiter
from serving.dispatch.tenant_limits import TenantLimits

LAG_S = 0.01


def admit(limiter: RateLimiter, limits: TenantLimits, now_s: float, tokens: int = 10) -> Permit:
    permit = limiter.admit("a", limits, tokens, now_s)
    assert isinstance(permit, Permit), permit
    return permit


def test_requests_are_limited_in_any_minute() -> None:
    limiter, limits = RateLimiter(), TenantLimits(requests_per_minute=3)
    for now_s in (0, 20, 40):
        admit(limiter, limits, now_s)
    assert limiter.admit("a", limits, 10, 50) == Exceeded("requests_per_minute", 3, 11)
    assert isinstance(limiter.admit("b", limits, 10, 50), Permit)
    admit(limiter, limits, 61)
    assert limiter.check("a", limits, 61) is not None


def test_tokens_are_counted_by_estimate_and_corrected_when_the_request_ends() -> None:
    limiter, limits = RateLimiter(), TenantLimits(tokens_per_minute=1000)
    permit = admit(limiter, limits, 0, 600)
    assert limiter.admit("a", limits, 600, 1) == Exceeded("tokens_per_minute", 1000, 60)
    limiter.end(permit, 300, 2)
    second = admit(limiter, limits, 3, 600)
    limiter.end(second, 1600, 30)
    tokens = limiter.tokens("a", limits, 31)
    assert tokens is not None and (tokens.limit, tokens.remaining) == (1000, 0)
    assert tokens.reset_s == pytest.approx(59.5), "what was more than expected counts from the end"
    assert limiter.check("a", limits, 70) is None or limiter.check("a", limits, 91) is None


def test_a_request_that_is_larger_than_its_limit_never_has_room() -> None:
    limits = TenantLimits(tokens_per_minute=1000)
    assert RateLimiter().admit("a", limits, 1001, 0) == Exceeded("tokens_per_minute", 1000, None)


def test_one_that_was_refused_for_another_reason_does_not_count() -> None:
    limiter = RateLimiter()
    limits = TenantLimits(requests_per_minute=1, tokens_per_minute=10, concurrent_requests=1)
    limiter.end(admit(limiter, limits, 0), 0, 5, refused=True)
    admit(limiter, limits, 6)


def test_a_day_is_24_hours_and_may_be_restored_after_all_routers_have_ended() -> None:
    limiter, limits = RateLimiter(), TenantLimits(tokens_per_day=1000)
    limiter.restore("a", 1, 700, 3600 * 20, 0)
    assert limiter.tokens("a", limits, 0) is not None
    refused = limiter.admit("a", limits, 400, 0)
    assert isinstance(refused, Exceeded) and refused.limit == "tokens_per_day"
    assert refused.retry_after_s is not None
    assert 3600 * 4 <= refused.retry_after_s <= 3600 * 4 + 720
    admit(limiter, limits, refused.retry_after_s, 1000)


def test_those_that_run_are_limited_until_one_ends() -> None:
    limiter, limits = RateLimiter(), TenantLimits(concurrent_requests=2)
    first, _ = (admit(limiter, limits, 0) for _ in range(2))
    assert limiter.admit("a", limits, 10, 100) == Exceeded("concurrent_requests", 2, 1)
    limiter.end(first, 10, 101)
    admit(limiter, limits, 101)


class Cluster:
    """Routers whose messages reach each other `LAG_S` later, and whose clocks differ."""

    def __init__(self, routers: int) -> None:
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.now_s = 0.0
        self.limiters: list[RateLimiter] = []
        self.ended: set[int] = set()
        for _ in range(routers):
            self.join()

    def join(self) -> RateLimiter:
        """Adds a router, which learns from the first of the others."""
        new = RateLimiter()
        name = len(self.limiters)
        if self.limiters:
            for message in self.limiters[0].usage(self.clock(0)):
                new.receive("router-0", [message], self.clock(name))
        for other, limiter in enumerate(self.limiters):
            if other not in self.ended:
                new.receive(f"router-{other}", limiter.snapshot(), self.clock(name))
        self.limiters.append(new)
        new.publish = partial(self.publish, name)
        return new

    def end(self, router: int) -> None:
        self.ended.add(router)
        self.limiters[router].publish = None
        for other in self.limiters:
            other.forget(f"router-{router}")

    def clock(self, router: int) -> float:
        return self.now_s + 1000 * router

    def publish(self, router: int, message: LimitMessage) -> None:
        sent = msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=LimitMessage)

        def arrive() -> None:
            for other, limiter in enumerate(self.limiters):
                if other != router:
                    limiter.receive(f"router-{router}", [sent], self.clock(other))

        self.at(self.now_s + LAG_S, arrive)

    def at(self, at_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self.events, (at_s, next(self.order), event))

    def run(self, until_s: float) -> None:
        while self.events and self.events[0][0] <= until_s:
            self.now_s, _, event = heapq.heappop(self.events)
            event()
        self.now_s = until_s


def most_in_a_minute(times_s: list[float]) -> int:
    """Returns the most of these times that any minute has."""
    first, most = 0, 0
    for last, at_s in enumerate(times_s):
        while times_s[first] <= at_s - 60:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.parametrize("limit", [60, 300])
def test_four_routers_exceed_a_limit_by_at_most_two_percent_at_a_hundred_times_of_it(
    limit: int,
) -> None:
    cluster, limits = Cluster(4), TenantLimits(requests_per_minute=limit)
    rng, admitted = random.Random(1), list[float]()

    def come() -> None:
        router = rng.randrange(4)
        outcome = cluster.limiters[router].admit("a", limits, 10, cluster.clock(router))
        if isinstance(outcome, Permit):
            admitted.append(cluster.now_s)
            cluster.limiters[router].end(outcome, 10, cluster.clock(router))

    for n in range(limit * 100 * 2):
        cluster.at(n * 60 / (limit * 100), come)
    cluster.run(120)
    assert limit * 0.97 <= most_in_a_minute(admitted) <= limit * 1.02
    assert len(admitted) >= limit * 2 * 0.95


def test_limits_survive_the_restart_of_any_router() -> None:
    cluster, limits = Cluster(2), TenantLimits(requests_per_minute=10, concurrent_requests=8)
    for n in range(6):
        admit(cluster.limiters[n % 2], limits, cluster.clock(n % 2))
    cluster.run(1)
    cluster.end(1)
    assert cluster.limiters[0].check("a", limits, cluster.clock(0)) is None
    new = cluster.join()
    for _ in range(4):
        admit(new, limits, cluster.clock(2))
    cluster.run(2)
    refused = [
        limiter.check("a", limits, cluster.clock(i))
        for i, limiter in enumerate(cluster.limiters)
        if i != 1
    ]
    assert [one and one.limit for one in refused] == ["requests_per_minute"] * 2
    cluster.run(62)
    assert new.check("a", limits, cluster.clock(2)) is None


def test_those_that_run_at_other_routers_count() -> None:
    cluster, limits = Cluster(3), TenantLimits(concurrent_requests=3)
    permits = [
        admit(limiter, limits, cluster.clock(i)) for i, limiter in enumerate(cluster.limiters)
    ]
    cluster.run(1)
    assert all(one.check("a", limits, 0) for one in cluster.limiters)
    cluster.limiters[1].end(permits[1], 10, cluster.clock(1))
    cluster.run(2)
    assert not any(one.check("a", limits, 0) for one in cluster.limiters)
    cluster.end(2)
    admit(cluster.limiters[0], limits, cluster.clock(0))
    admit(cluster.limiters[1], limits, cluster.clock(1))
