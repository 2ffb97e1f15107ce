"""Which streams of a replica that leaves are handed over, and when."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from serving.router.replicas import hand_over
from serving.router.replicas.hand_over import RunningStream, RunningStreams, ends_in_time
from serving.router.replicas.upstream import AbortedError, HandedOverError
from tests.support.waiting import eventually

EXPECTED, ITL_S = 500, 0.02
"""An answer of 10 s, which is relied upon to end within 30 s."""


@pytest.mark.parametrize(
    ("left_s", "tokens", "stays"),
    [
        (30, 10, True),
        (29, 10, False),
        (600, 10, True),
        (0, 10, False),
        (30, 490, True),  # those that are to come are no fewer for those that came
        (30, 1000, False),  # longer than expected: it may be very long
        (60, 1000, True),
    ],
)
def test_a_stream_stays_that_can_be_relied_upon_to_end(
    left_s: float, tokens: int, stays: bool
) -> None:
    assert ends_in_time(EXPECTED, tokens, ITL_S, left_s) is stays


class FakeConnection:
    """Notes why it was aborted."""

    def __init__(self) -> None:
        self.error: AbortedError | None = None

    def abort(self, error: AbortedError) -> None:
        self.error = error


def stream(
    tokens: int = 100, can_move: Callable[[], bool] = lambda: True, expected: int = EXPECTED
) -> RunningStream:
    """Returns a stream that has had `tokens` in as many times `ITL_S`."""
    connection: Any = FakeConnection()
    began_s = asyncio.get_running_loop().time() - tokens * ITL_S
    return RunningStream(connection, expected, lambda: tokens, can_move, 0, began_s)


def is_gone(one: RunningStream) -> bool:
    return isinstance(cast(FakeConnection, one.connection).error, HandedOverError)


def running(*streams: RunningStream) -> RunningStreams:
    of_replica = RunningStreams()
    for one in streams:
        of_replica.add(one)
    return of_replica


async def test_while_a_replica_does_not_leave_all_stay() -> None:
    one = stream()
    of_replica = running(one)
    await asyncio.sleep(0)
    of_replica.remove(one)
    assert not is_gone(one)


async def test_those_go_that_cannot_end_in_time_and_can_go_on_elsewhere() -> None:
    long, short, bound = stream(), stream(expected=10), stream(can_move=lambda: False)
    of_replica = running(short, bound, long)
    of_replica.replica_leaves(20)
    await eventually(lambda: is_gone(long))
    for one in (short, bound, long):
        of_replica.remove(one)
    assert [is_gone(one) for one in (short, bound)] == [False, False]


async def test_one_that_begins_while_it_leaves_goes_too() -> None:
    of_replica = running()
    of_replica.replica_leaves(20)
    of_replica.add(late := stream())
    await eventually(lambda: is_gone(late))
    of_replica.remove(late)


async def test_what_stays_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes once another replica is up, or once the time that is left has become too short."""
    monkeypatch.setattr(hand_over, "_LOOK_EVERY_S", 0.001)
    others: list[str] = []
    waits, long = stream(can_move=lambda: bool(others)), stream()
    of_replica = running(waits, long)
    of_replica.replica_leaves(600)
    await asyncio.sleep(0.01)
    assert not is_gone(long)
    of_replica.replica_leaves(20)
    await eventually(lambda: is_gone(long))
    assert not is_gone(waits)
    others.append("another")
    await eventually(lambda: is_gone(waits))
    of_replica.remove(waits)
    of_replica.remove(long)


async def test_they_go_one_after_the_other_within_a_fifth_of_the_time() -> None:
    """The pauses are equal, whatever the machine's speed."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await real_sleep(0)

    real_sleep = asyncio.sleep
    streams = [stream() for _ in range(10)]
    of_replica = RunningStreams(clock=lambda: 1000.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hand_over.asyncio, "sleep", sleep)  # type: ignore[attr-defined]
        for one in streams:
            one.began_s = 1000 - 100 * ITL_S
            of_replica.add(one)
        of_replica.replica_leaves(20)
        while not all(map(is_gone, streams)):
            await real_sleep(0)
        for one in streams:
            of_replica.remove(one)
    assert pauses[:9] == pytest.approx([0.4] * 9)


async def test_a_stream_is_handed_over_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hand_over, "_LOOK_EVERY_S", 0.001)
    one = stream()
    of_replica = running(one)
    of_replica.replica_leaves(0)
    await eventually(lambda: is_gone(one))
    cast(FakeConnection, one.connection).error = None
    await asyncio.sleep(0.01)
    of_replica.remove(one)
    assert not is_gone(one)
