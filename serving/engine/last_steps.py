"""Which requests an engine may have died of."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class EngineDeathError(Exception):
    """The engine died during a request."""

    def __init__(self, suspects: int) -> None:
        """`suspects` is how many requests were in its last steps; 0 if this one was not."""
        super().__init__(f"the engine died; {suspects} requests were in its last steps")
        self.suspects = suspects


class LastSteps:
    """Keeps the requests without a token yet, as an engine's prefill is where new work begins.

    A request whose client leaves is kept until the engine is known to have survived it: until it
    answers a ping that was sent later. Pings and requests reach the engine in the order in which
    they are sent, and it answers pings between two steps.
    """

    def __init__(self) -> None:
        self._entered_s: dict[str, float] = {}
        self._left_s: dict[str, float] = {}
        self._at_death: frozenset[str] | None = None

    def enter(self, request_id: str, now_s: float) -> None:
        """Notes that a request is sent to the engine."""
        self._entered_s[request_id] = now_s
        self._left_s.pop(request_id, None)

    @contextmanager
    def running(self, request_id: str, is_dead: Callable[[], bool]) -> Iterator[None]:
        """Keeps a request for as long as the context lasts. If the engine has died by its end, what
        was raised becomes an EngineDeathError."""
        self.enter(request_id, time.monotonic())
        try:
            yield
        except Exception as error:
            if is_dead():
                raise self.death(request_id) from error
            raise
        finally:
            self.leave(request_id, time.monotonic())

    def prefilled(self, request_id: str) -> None:
        """Notes that the engine has generated a token for it."""
        self._entered_s.pop(request_id, None)

    def leave(self, request_id: str, now_s: float) -> None:
        """Notes that it has ended, or that its client has left."""
        if request_id in self._entered_s:
            self._left_s[request_id] = now_s

    def answered(self, sent_s: float) -> None:
        """Notes that the engine has answered a ping that was sent at that time."""
        for request_id in [one for one, left_s in self._left_s.items() if left_s < sent_s]:
            del self._left_s[request_id]
            del self._entered_s[request_id]

    def hang(self, since_s: float) -> None:
        """Notes that the engine died of a step in which it never answered a ping sent at
        `since_s`. What was sent later has not reached a step."""
        self._at_death = frozenset(one for one, at_s in self._entered_s.items() if at_s <= since_s)

    def death(self, request_id: str) -> EngineDeathError:
        """Returns the error for a request that the engine's death has ended."""
        if self._at_death is None:
            self._at_death = frozenset(self._entered_s)
        return EngineDeathError(len(self._at_death) if request_id in self._at_death else 0)
