"""Hands streams of a replica that leaves over to others, if they would not end in time."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from serving.router.replicas.upstream import Connection, HandedOverError

_MARGIN = 3
"""How many times its expected rest a stream may take. Were the lengths of answers exponentially
distributed, 5 % would take longer."""

_SHARE = 0.2
"""The share of the time left within which streams are handed over one after the other, so that the
other replicas do not get all their prompts at once."""

_LOOK_EVERY_S = 1.0
_MAX_PAUSE_S = 1.0
"""The longest pause between two streams, as more may have to go by then."""


def ends_in_time(expected_tokens: int, tokens: int, itl_s: float, left_s: float) -> bool:
    """Returns whether a stream can be relied upon to end within `left_s`. `expected_tokens` is what
    was expected of the whole answer, `tokens` what there is of it. How much is to come is as
    unknown as it was at the beginning, and the more, the longer the answer already is."""
    return _MARGIN * max(expected_tokens, tokens) * itl_s <= left_s


@dataclass(eq=False, slots=True)
class RunningStream:
    """A stream that a replica has begun."""

    connection: Connection
    expected_tokens: int
    """What was expected of the whole answer."""
    count_tokens: Callable[[], int]
    """Returns the tokens of the whole answer so far."""
    can_move: Callable[[], bool]
    """Returns whether another replica is there that could continue it."""
    began_tokens: int
    """The tokens that it had when this replica began, at `began_s`."""
    began_s: float
    is_handed_over: bool = False

    def should_go(self, left_s: float, now_s: float) -> bool:
        if self.is_handed_over or not self.can_move():
            return False
        tokens = self.count_tokens()
        itl_s = (now_s - self.began_s) / max(tokens - self.began_tokens, 1)
        return not ends_in_time(self.expected_tokens, tokens, itl_s, left_s)

    def hand_over(self) -> None:
        self.is_handed_over = True
        self.connection.abort(HandedOverError("it leaves"))


class RunningStreams:
    """The streams that a replica has begun. Once it leaves, those that cannot be relied upon to
    end in time are handed over, where another replica can continue them; the others stay."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._streams: dict[RunningStream, None] = {}
        self._ends_s: float | None = None
        self._handing: asyncio.Task[None] | None = None

    def add(self, stream: RunningStream) -> None:
        self._streams[stream] = None
        self._begin()

    def remove(self, stream: RunningStream) -> None:
        del self._streams[stream]
        if not self._streams and self._handing is not None:
            self._handing.cancel()
            self._handing = None

    def replica_leaves(self, left_s: float) -> None:
        """Called when the replica says in how many seconds it cuts off what it still has."""
        self._ends_s = self._clock() + left_s
        self._begin()

    def _begin(self) -> None:
        if self._ends_s is not None and self._streams and self._handing is None:
            self._handing = asyncio.create_task(self._hand_over())

    @property
    def _left_s(self) -> float:
        assert self._ends_s is not None
        return max(self._ends_s - self._clock(), 0.0)

    async def _hand_over(self) -> None:
        """Runs until the last stream has left."""
        while True:
            now_s = self._clock()
            going = [one for one in self._streams if one.should_go(self._left_s, now_s)]
            pause_s = min(_SHARE * self._left_s / max(len(going), 1), _MAX_PAUSE_S)
            for stream in going:
                if stream in self._streams and stream.can_move():
                    stream.hand_over()
                    await asyncio.sleep(pause_s)
            if not going:
                await asyncio.sleep(_LOOK_EVERY_S)
