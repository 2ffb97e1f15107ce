"""The sessions of agents, as the prompts tell: each turn continues the answer to the one before."""

import math
from collections import OrderedDict, deque
from collections.abc import Sequence, Set

from serving.placement.cache_shares import CacheShares
from serving.placement.capacity import UNLIMITED
from serving.placement.load import Booking, ReplicaLoad
from serving.placement.prefix import Prefix

SESSION_TURNS = 2
"""Turns after which a conversation counts as a session: most requests are never continued."""
_FORGET_S = 1800.0
"""How long a conversation that is not continued is remembered."""
_MOST = 50_000
"""Prompts that are remembered, of some 300 bytes each."""
_PROMPTS = 4
"""Last prompts by which a session is known. One is not enough: 10 % of the turns of recorded coding
agents do not contain the end of the prompt before, which had a reminder, and 5 % continue an
earlier one."""
_EARLIER_BLOCKS = 32
"""How many blocks before its last answer a prompt is searched for an earlier one. Blocks grow with
the prompt, so that it is about as much as the context itself."""
_KEPT = 0.9
"""The part of a KV cache that the sessions of a replica may fill. The rest holds what is of no use
any more, as the engine evicts the least recently used blocks and not those of ended sessions, and
requests of no session. At four times as many sessions as the caches hold (`tests.bench.agents`),
agents finish as many tasks with 0.8, 2 % fewer with 0.95, and 25 % fewer with 1. With as many as
the caches hold, 0.8 has turns wait that need not."""
_OVERDUE = 0.7
"""After how much of the time in which a replica reads as much as its cache holds a session need not
be kept: after all of it, keeping costs as much of the cache as reading costs of that time. Recorded
agents with twice as many contexts as the caches hold do 5 % fewer turns with 1, as their pauses
are long and the replicas have time to read; with four times as many they do 3 % more."""


class Session:
    """A conversation and what it has cached. Only `Sessions` changes it."""

    __slots__ = (
        *("began_s", "home", "idle_since_s", "load", "prompts", "running"),
        *("shared_tokens", "tenant", "tokens", "turns"),
    )

    def __init__(self, shared_tokens: int, began_s: float) -> None:
        self.began_s = began_s
        self.home: ReplicaLoad | None = None
        """The replica that had its last turn, whose main memory may still have its context."""
        self.load: ReplicaLoad | None = None
        """The replica whose working set it belongs to; None: it is paused, or no session yet."""
        self.prompts: deque[int] = deque(maxlen=_PROMPTS)
        """The hashes of its last prompts."""
        self.tokens = 0
        """Tokens of its context that no other session has."""
        self.shared_tokens = shared_tokens
        """Tokens that were cached before its first turn, as others begin with the same."""
        self.tenant = ""
        self.turns = 0
        self.running = 0
        """Requests in flight: more than one if a prompt was sent twice."""
        self.idle_since_s = 0.0
        """When its last answer ended; infinite while its next turn waits."""

    @property
    def is_away(self) -> bool:
        """Whether its tools or a person are at work."""
        return not self.running and self.idle_since_s < math.inf


class Sessions:
    """The working set of each replica: the sessions whose contexts its KV cache keeps for their
    next turns. If they no longer fit, those that wait for their tools leave it: first those that
    are overdue, then those of the tenant that has most of the caches for its weight, the longest
    idle before others, as the engine evicts them in that order."""

    def __init__(self) -> None:
        self._by_prompt: OrderedDict[int, Session] = OrderedDict()
        """By the hashes of the last prompts, the least recently continued session first."""
        self._running: dict[Booking, Session] = {}
        self._members: dict[ReplicaLoad, dict[Session, None]] = {}
        self._tokens: dict[ReplicaLoad, int] = {}
        self.shares = CacheShares()

    def find(self, prefix: Prefix) -> Session | None:
        """Returns the session that a prompt is a turn of, if it is known."""
        if not prefix.hashes:
            return None
        session = self._by_prompt.get(prefix.hashes[-1])
        if session is None and prefix.answer is not None:
            before = prefix.answer[0]
            for block in reversed(prefix.hashes[max(before - _EARLIER_BLOCKS, 0) : before]):
                if (session := self._by_prompt.get(block)) is not None:
                    break
        return session

    def assign(self, session: Session, tenant: str, weight: float) -> None:
        """Notes whose session it is, and the tenant's part of the caches relative to others'."""
        self.shares.weigh(tenant, weight)
        if session.load is None:
            session.tenant = tenant

    def expect(self, session: Session) -> None:
        """Notes that the next turn of a session waits: it is not the session that pauses."""
        session.idle_since_s = math.inf

    def give_up(self, session: Session, now_s: float) -> None:
        """Notes that the turn that was expected will not come."""
        if not session.running:
            session.idle_since_s = now_s

    def begin(self, booking: Booking, tokens: int, cached_tokens: int, now_s: float) -> None:
        """Notes that a replica is sent a prompt, which takes `tokens` with its expected answer."""
        prefix = booking.prefix
        if not prefix.hashes:
            return
        session = self.find(prefix)
        if session is None:
            session = Session(cached_tokens, now_s)
            self._forget(now_s)
        self._note(session, prefix.hashes[-1])
        self._running[booking] = session
        session.running += 1
        self._leave(session)
        session.tokens = max(tokens - session.shared_tokens, 0)
        session.home = booking.load
        if session.turns >= SESSION_TURNS:
            self._join(session, booking.load, now_s)

    def end(self, booking: Booking, now_s: float) -> None:
        """Notes that a replica is done with a prompt. A repeated call is ignored."""
        session = self._running.pop(booking, None)
        if session is not None:
            session.running -= 1
            session.idle_since_s = now_s

    def room_for(
        self, session: Session, tokens: int, loads: Sequence[ReplicaLoad], now_s: float
    ) -> ReplicaLoad | None:
        """Returns the replica that the session was on or, if its working set has no room for it,
        the one whose working set has most, or that can have most as members are overdue or of
        tenants with more than their share; None if that is not enough for a session whose next turn
        takes `tokens`, with its expected answer."""
        own_tokens = max(tokens - session.shared_tokens, 0)
        home = session.home
        if home is not None and home in loads and self._room_tokens(home) >= own_tokens:
            return home
        load = max(loads, key=self._room_tokens)
        if self._room_tokens(load) >= own_tokens:
            return load
        all_tokens = sum(load.capacity.prefix_cache_tokens for load in loads) * _KEPT
        above = self.shares.above(all_tokens, session.tenant, own_tokens)
        room = {
            load: self._room_tokens(load) + self._yielding_tokens(load, above, now_s)
            for load in loads
        }
        load = max(loads, key=room.__getitem__)
        return load if room[load] >= own_tokens else None

    def admit(self, session: Session, tokens: int, load: ReplicaLoad, now_s: float) -> None:
        """Makes a session whose next turn takes `tokens`, with its expected answer, a member of a
        replica's working set."""
        session.tokens = max(tokens - session.shared_tokens, 0)
        self.expect(session)
        self._join(session, load, now_s)

    def end_all(self, load: ReplicaLoad) -> None:
        """Ends the working set of a replica that is gone."""
        for session in list(self._members.get(load, ())):
            self._leave(session)
        self._members.pop(load, None)
        self._tokens.pop(load, None)

    def _room_tokens(self, load: ReplicaLoad) -> int:
        """Returns the tokens of the largest session that may join a replica's working set beside
        its members. One without members takes any."""
        if not self._members.get(load):
            return UNLIMITED.kv_cache_tokens
        return int(load.capacity.prefix_cache_tokens * _KEPT) - self._tokens[load]

    def _join(self, session: Session, load: ReplicaLoad, now_s: float) -> None:
        """Makes a session a member of a replica's working set, in which it takes the place of those
        that wait for their tools if there is no other."""
        self._leave(session)
        session.load = load
        self._members.setdefault(load, {})[session] = None
        self._tokens[load] = self._tokens.get(load, 0) + session.tokens
        self.shares.add(session.tenant, session.tokens)
        excess = self._tokens[load] - load.capacity.prefix_cache_tokens * _KEPT
        if excess > 0:
            away = [one for one in self._members[load] if one.is_away and one is not session]
            away.sort(key=lambda one: one.idle_since_s)
            overdue_s = now_s - _kept_s(load)
            while away and excess > 0:
                other = max(
                    away,
                    key=lambda one: (one.idle_since_s < overdue_s, self.shares.used(one.tenant)),
                )
                away.remove(other)
                excess -= other.tokens
                self._leave(other)

    def _leave(self, session: Session) -> None:
        if session.load is not None:
            del self._members[session.load][session]
            self._tokens[session.load] -= session.tokens
            self.shares.add(session.tenant, -session.tokens)
            session.load = None

    def _yielding_tokens(self, load: ReplicaLoad, above: Set[str], now_s: float) -> int:
        """Returns the tokens of those members that are overdue, or wait for their tools and are of
        tenants `above` their shares."""
        overdue_s = now_s - _kept_s(load)
        return sum(
            one.tokens
            for one in self._members[load]
            if one.is_away and (one.idle_since_s < overdue_s or one.tenant in above)
        )

    def _note(self, session: Session, prompt: int) -> None:
        """Adds to the prompts by which a session is known."""
        prompts, by_prompt = session.prompts, self._by_prompt
        if prompt not in prompts:
            if len(prompts) == _PROMPTS:
                by_prompt.pop(prompts[0], None)
            prompts.append(prompt)
            session.turns += 1
        for one in prompts:
            by_prompt[one] = session
            by_prompt.move_to_end(one)

    def _forget(self, now_s: float) -> None:
        """Drops the conversations that were continued least recently and are over by now."""
        while self._by_prompt:
            session = next(iter(self._by_prompt.values()))
            is_over = len(self._by_prompt) > _MOST or session.idle_since_s <= now_s - _FORGET_S
            if session.running or not is_over:
                return
            self._leave(session)
            for prompt in session.prompts:
                self._by_prompt.pop(prompt, None)


def _kept_s(load: ReplicaLoad) -> float:
    """Returns how long a session is worth its part of a replica's cache while its tools work."""
    return _OVERDUE * load.capacity.prefix_cache_tokens / load.rates.prefill_tokens_per_s
