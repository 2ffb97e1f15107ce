"""What simulated routers tell each other."""

from collections.abc import Callable, Sequence
from functools import partial

from serving.dispatch import Dispatcher, LimitMessage, Message, RateLimiter

Event = Callable[[float], None]
"""What happens at a time."""


def connect(
    dispatchers: Sequence[Dispatcher],
    limiters: Sequence[RateLimiter],
    later: Callable[[Event], None],
    poll: Callable[[int, float], None],
) -> None:
    """Has each router receive what the others publish. `later` is given what happens when a message
    arrives; `poll` is called with a router that has received one, and the time."""

    def receive(publisher: int, message: Message, now_s: float) -> None:
        for router, dispatcher in enumerate(dispatchers):
            if router != publisher:
                dispatcher.sync.receive(f"router-{publisher}", [message], now_s)
                poll(router, now_s)

    def receive_limits(publisher: int, message: LimitMessage, now_s: float) -> None:
        for router, limiter in enumerate(limiters):
            if router != publisher:
                limiter.receive(f"router-{publisher}", [message], now_s)

    def publish(router: int, message: Message) -> None:
        later(partial(receive, router, message))

    def publish_limits(router: int, message: LimitMessage) -> None:
        later(partial(receive_limits, router, message))

    for router, (dispatcher, limiter) in enumerate(zip(dispatchers, limiters, strict=True)):
        dispatcher.sync.publish = partial(publish, router)
        limiter.publish = partial(publish_limits, router)
