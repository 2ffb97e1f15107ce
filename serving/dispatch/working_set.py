"""The turns of sessions that wait until a replica's cache has room for the session."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from serving.dispatch.reservation import Reservation
from serving.placement import ReplicaLoad, Sessions

LONGEST_PAUSE_S = 300.0
"""After this a turn no longer waits for room: half of the time that the clients of OpenAI and
Anthropic wait for an answer."""
_LOOK_AGAIN_S = 0.05
"""How often is looked for room while turns wait: members that wait for their tools become overdue
without an event."""


class _Turn(NamedTuple):
    """A turn that waits."""

    until_s: float
    """When it stops waiting."""
    turns_per_s: float
    """The rate of its session's turns until it came."""


class WorkingSet:
    """Holds back the turns of sessions that no replica has cached, while the sessions that are
    cached leave no room for them: else each turn would evict what another one comes back for, and
    all of them read their whole contexts again.

    It holds them before the request queue. A turn of a session that is cached passes, and so does
    the first turn of a conversation, of which no one knows whether it will be a session. Of those
    that wait, the tenant whose sessions have least of the caches for its weight is the first to
    have room, and of its sessions the one that had the fewest turns for its time, so that all come
    on alike.
    """

    def __init__(self, sessions: Sessions, max_waiting: int) -> None:
        """Further turns than `max_waiting` pass."""
        self.waiting: dict[Reservation, _Turn] = {}
        """In order of arrival."""
        self._sessions = sessions
        self._max_waiting = max_waiting
        self._looks_at_s = -math.inf

    def holds(
        self, reservation: Reservation, replicas: Sequence[ReplicaLoad], now_s: float
    ) -> bool:
        """Whether a turn must wait. It is then in `waiting`."""
        request, tokens = reservation.request, reservation.kv_tokens
        prefix = request.work.prefix
        session = self._sessions.find(prefix)
        if session is None or prefix.hashes[-1] in session.prompts:
            return False
        self._sessions.assign(session, request.tenant, request.weight)
        if len(self.waiting) >= self._max_waiting or not replicas:
            return False
        reservation.session = session
        if session.load is not None:
            self._sessions.expect(session)
            return False
        if not self.waiting and self._sessions.room_for(session, tokens, replicas, now_s):
            return False
        until_s = now_s + LONGEST_PAUSE_S
        if request.timeout_s is not None:
            until_s = min(until_s, now_s + (request.timeout_s - reservation.service_s) / 2)
        lasted_s = max(now_s - session.began_s, _LOOK_AGAIN_S)
        self.waiting[reservation] = _Turn(until_s, session.turns / lasted_s)
        return True

    def next(self, replicas: Sequence[ReplicaLoad], now_s: float) -> Reservation | None:
        """Removes a turn that need not wait any more, and returns it: the first if there is room
        for it, else one that has waited for too long. None: all must wait."""
        if not self.waiting or now_s < self._looks_at_s:
            return None
        turn = min(self.waiting, key=self._order)
        if not self._has_room(turn, replicas, now_s):
            self._looks_at_s = now_s + _LOOK_AGAIN_S
            expired = (one for one, waits in self.waiting.items() if waits.until_s <= now_s)
            if (late := next(expired, None)) is None:
                return None
            turn = late
        del self.waiting[turn]
        return turn

    def withdraw(self, reservation: Reservation, now_s: float) -> None:
        """Ends a turn that is not placed, whether or not it waits here."""
        self.waiting.pop(reservation, None)
        if reservation.session is not None:
            self._sessions.give_up(reservation.session, now_s)

    @property
    def due_s(self) -> float:
        """When there may be room though nothing else happens until then."""
        return self._looks_at_s if self.waiting else math.inf

    def _order(self, turn: Reservation) -> tuple[float, float]:
        """Returns what its tenant has of the caches for its weight, and the rate of its session's
        turns."""
        used = self._sessions.shares.used(turn.request.tenant)
        return used, self.waiting[turn].turns_per_s

    def _has_room(self, turn: Reservation, replicas: Sequence[ReplicaLoad], now_s: float) -> bool:
        """Whether a turn need not wait any more. Its session then has its room."""
        session = self._sessions.find(turn.request.work.prefix)
        if session is None:
            return True
        if not replicas:
            return False
        turn.room = self._sessions.room_for(session, turn.kv_tokens, replicas, now_s)
        if turn.room is not None:
            self._sessions.admit(session, turn.kv_tokens, turn.room, now_s)
        return turn.room is not None
