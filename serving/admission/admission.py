"""Lets requests of one model in, makes them wait for room, or tells them when to come back."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from serving.admission.allotment import RouterDemand
from serving.admission.capacity import Capacity, Replica, have_room, rooms_tokens
from serving.admission.drain import DrainRate
from serving.admission.flow import Flow
from serving.admission.line import Line
from serving.admission.promises import Kept, Made, Promise, Promises
from serving.admission.ticket import PRIORITIES, Demand, Reason, Refusal, Ticket

ANSWER_S = 10.0
"""First guess of how long a request stays on a replica: an answer of 400 tokens at 25 ms each."""

_LET_IN = 0.75
"""Part of the longest wait up to which new requests are let in, for estimates err."""
_RESERVE = 0.25
"""Part of the longest wait that those who were told to come back are to wait in the line, so that
it is never empty while they are on their way."""
_IDLE = 0.125
"""Part of the longest wait below which the line takes anyone, for those who were promised a place
may not come."""
_LEAST_LEFT = 0.1
"""Part of the drain rate that a priority is counted on to get, whatever comes above it."""
_LONGEST_RETRY_S = 3600
_BYPASS = 0.5
"""Part of its own KV tokens that smaller requests may go past the first of the line, before a
replica is kept for it. Half of the replicas at most are kept so."""
_PATIENCE = 0.5
"""Part of its longest wait that a request waits for one replica while nearly all have room."""
_FEW_FULL = 1 / 8
"""Of the replicas. By simulation of 8: with a quarter, a fleet past its limit reads more prompts
anew, and serves up to 4 % less."""
_ANY = 1 << 62

R = TypeVar("R", bound=Replica)


class Admission(Generic[R]):
    """The waiting line in front of a model's replicas, for one router.

    `offer` a request; hand out room with `next` until it has none to give; `end` what was handed
    out; `withdraw` whose client left; tell those that `dismissed` yields. `next` and `dismissed`
    are due after each of the others. All times are of one monotonic clock.

    A request that was placed once needs no second ticket to be placed elsewhere.
    """

    def __init__(
        self,
        capacity: Capacity,
        *,
        max_waiting: int,
        max_wait_s: float,
        startup_s: float,
        now_s: float,
        answer_s: float = ANSWER_S,
    ) -> None:
        """`capacity` is what a replica is expected to have as long as none is up, and `startup_s`
        the time that the first is then expected to take.
        """
        self.capacity = capacity
        self.replicas: list[R] = []
        self._numbers: dict[R, int] = {}
        self.allotment: float | None = None
        """Parts of a replica that this router may have booked, all replicas together, if there are
        other routers; see allotment.py."""
        self.news: list[Made | Kept] | None = None
        """For the promises of the other routers to hear, if there are any: then a list, which
        whoever passes the news on empties."""
        self.line = Line()
        self.promises = Promises()
        self.drain = DrainRate(answer_s, now_s)
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._startup_s = startup_s
        self._down_since_s: float | None = now_s
        self._orders = itertools.count(1)
        self._flow = Flow(PRIORITIES, now_s)
        self._dismissed: list[tuple[Ticket, Refusal]] = []
        self._kept: dict[Ticket, R] = {}
        """Who was overtaken often enough, and the replica that takes no one else until it has room
        for them. They are not in the line any more."""

    def update(self, replicas: Iterable[R], allotment: float | None, now_s: float) -> None:
        """These are the replicas that are up, and that is this router's part of them."""
        self.replicas = list(replicas)
        self._numbers = {replica: at for at, replica in enumerate(self.replicas)}
        self.allotment = allotment
        if self.replicas:
            self.capacity = self.replicas[0].capacity
            self._down_since_s = None
        elif self._down_since_s is None:
            self._down_since_s = now_s
        for ticket in [t for t, replica in self._kept.items() if replica not in self.replicas]:
            del self._kept[ticket]
            self.line.put_back(ticket)
        self.drain.set_capacity(allotment or len(self.replicas) or 1, now_s)

    def offer(self, demand: Demand, now_s: float) -> Ticket | Refusal:
        """A ticket that waits, be it for an instant, or why the request is not let in."""
        self.promises.lapse(now_s)
        share = self.capacity.share(demand.kv_tokens)
        promise = None if demand.key is None else self.promises.find(demand.key)
        if promise is None:
            let_in, wait_s = self._new(demand, share, now_s)
        else:
            let_in, wait_s = self._returning(promise, share, now_s)
        reason: Reason = "wait_too_long"
        if demand.timeout_s is not None and wait_s + demand.service_s > demand.timeout_s:
            let_in, reason = False, "deadline_unreachable"
        elif len(self.line) >= self._max_waiting:
            reason = "queue_full"
            let_in = let_in and self._displace(demand, now_s)
        if not let_in:
            return self._refuse(demand, None, share, reason, wait_s, promise, now_s)
        if promise is not None:
            self._keep(promise)
        else:
            self._flow.add(demand.priority, share, now_s)
        order = promise.order if promise is not None and promise.order else next(self._orders)
        ticket = Ticket(demand, order, share, now_s, self._expiry(demand, now_s))
        self.line.add(ticket)
        return ticket

    def next(self, now_s: float) -> tuple[Ticket, Sequence[R]] | None:
        """The next request and the replicas that have room for it, of which the caller books one
        before it calls again. None: no room, or nobody waits.
        """
        placed = self._next(now_s)
        if placed is None:
            self.drain.full = bool(self.line or self._kept)
            return None
        ticket, _ = placed
        self.withdraw(ticket)
        self.drain.book(ticket.share, now_s)
        return placed

    def end(self, ticket: Ticket, served: bool, now_s: float) -> None:
        """A request that was handed out has left its replica. `served`: it ran, even if its client
        left early; not if the replica failed it.
        """
        self.drain.release(ticket.share, served, now_s)

    def withdraw(self, ticket: Ticket) -> None:
        """A waiting request whose client left."""
        if self._kept.pop(ticket, None) is None:
            self.line.remove(ticket)

    def dismissed(self, now_s: float) -> Iterator[tuple[Ticket, Refusal]]:
        """Those who wait no longer: their time is up, or one of higher priority took their place
        in a full line.
        """
        while (ticket := self.line.next_to_expire()) is not None and ticket.expires_at_s <= now_s:
            self._dismiss(ticket, "wait_too_long", now_s)
        for ticket in [ticket for ticket in self._kept if ticket.expires_at_s <= now_s]:
            self._dismiss(ticket, "wait_too_long", now_s)
        dismissed, self._dismissed = self._dismissed, []
        yield from dismissed

    def next_expiry_s(self) -> float | None:
        """When `dismissed` will have someone, unless something happens before."""
        first = self.line.next_to_expire()
        waiting = [*self._kept, first] if first else self._kept
        return min((ticket.expires_at_s for ticket in waiting), default=None)

    def startup_left_s(self, now_s: float) -> float:
        """Until the first replica is expected; 0 when one is up. One that is late is expected to
        take as long again as it is late, up to a whole start-up.
        """
        if self._down_since_s is None:
            return 0.0
        left_s = self._startup_s - (now_s - self._down_since_s)
        return left_s if left_s > 0 else min(max(-left_s, 1.0), self._startup_s)

    def router_demand(self, router_id: str) -> RouterDemand:
        """What the other routers are to know of this one."""
        waiting = sum(self.line.shares) + sum(ticket.share for ticket in self._kept)
        waiting += self.promises.expected_share(0)
        return RouterDemand(router_id, self.drain.booked, waiting)

    # Placing

    def _next(self, now_s: float) -> tuple[Ticket, Sequence[R]] | None:
        if not (self.line or self._kept) or not self.replicas:
            return None
        rooms = rooms_tokens(self.replicas, now_s)
        for ticket, kept in self._kept.items():
            at = self.replicas.index(kept)
            if rooms[at] >= ticket.demand.kv_tokens:
                return ticket, [kept]
            rooms[at] = -1
        roomiest = max(rooms)
        while (first := self.line.first(_ANY)) is not None:
            if self._beyond_allotment(first.share):
                return None
            tokens = first.demand.kv_tokens
            if roomiest >= tokens:
                return self._suited(rooms, now_s)
            if first.overtaken < tokens * _BYPASS or len(self._kept) * 2 >= len(self.replicas):
                break
            at = rooms.index(roomiest)
            self.line.remove(first)
            self._kept[first] = self.replicas[at]
            rooms[at] = -1
            roomiest = max(rooms)
        if first is None or (smaller := self.line.first(roomiest)) is None:
            return None
        tokens = smaller.demand.kv_tokens
        first.overtaken += tokens
        return smaller, self._with_room(tokens, rooms)

    def _suited(self, rooms: list[int], now_s: float) -> tuple[Ticket, Sequence[R]] | None:
        """The first of the line's front that has a replica to go to, and all those replicas."""
        lowest = min(rooms)
        for place, ticket in enumerate(self.line.front):
            tokens = ticket.demand.kv_tokens
            replicas: Sequence[R] = self.replicas
            if lowest < tokens:
                if ticket.demand.choose is None or self._goes_anywhere(ticket, rooms, now_s):
                    replicas = self._with_room(tokens, rooms)
                else:
                    replicas = self._at_home(ticket, rooms, place == 0, now_s)
            if replicas and not self._beyond_allotment(ticket.share):
                return ticket, replicas
        return None

    def _at_home(self, ticket: Ticket, rooms: list[int], anew: bool, now_s: float) -> Sequence[R]:
        """The replica that it would be placed on if all had room, if that one has. Room alone is a
        bad guide: it is seldom where the prompt is cached, and each that is read anew slows down
        all that decode there. So who has to wait does so for that replica and lets others pass; in
        a full fleet until its time is up, for more are served so. Its choice is asked for `anew`
        when it is the first, or when the replica has room.
        """
        at = self._numbers.get(ticket.home)
        tokens = ticket.demand.kv_tokens
        if at is None or anew or rooms[at] >= tokens:
            at = self._choice(ticket, now_s)
            ticket.home = self.replicas[at]
        return [self.replicas[at]] if rooms[at] >= tokens else []

    def _goes_anywhere(self, ticket: Ticket, rooms: list[int], now_s: float) -> bool:
        """Whether it has waited for its replica for long, and hardly another one is full."""
        longest_s = ticket.expires_at_s - ticket.arrived_at_s
        if now_s - ticket.arrived_at_s < longest_s * _PATIENCE:
            return False
        full = sum(room < ticket.demand.kv_tokens for room in rooms)
        return full <= len(rooms) * _FEW_FULL

    def _choice(self, ticket: Ticket, now_s: float) -> int:
        """Of the replicas that are not kept for others, its own."""
        choose = ticket.demand.choose
        assert choose is not None
        if not self._kept:
            return choose(self.replicas, now_s)
        kept = set(self._kept.values())
        free = [replica for replica in self.replicas if replica not in kept]
        return self._numbers[free[choose(free, now_s)]]

    def _with_room(self, tokens: int, rooms: list[int]) -> Sequence[R]:
        if min(rooms) >= tokens:
            return self.replicas
        return [
            replica for replica, room in zip(self.replicas, rooms, strict=True) if room >= tokens
        ]

    def _beyond_allotment(self, share: float) -> bool:
        booked = self.drain.booked
        return self.allotment is not None and booked > 0 and booked + share > self.allotment

    # Estimating

    def _new(self, demand: Demand, share: float, now_s: float) -> tuple[bool, float]:
        """For one that was not here before: whether the line takes it, and how long it would
        wait.
        """
        line_s, all_s = self._waits_s(demand.priority, share, now_s)
        startup_s = self.startup_left_s(now_s)
        waiting = len(self.line)
        idle = line_s <= self._max_wait_s * _IDLE and waiting < self._max_waiting
        crowded = waiting + self.promises.expected >= self._max_waiting
        let_in = idle or (
            all_s <= self._max_wait_s * _LET_IN
            and (not crowded or self._outranks_last(demand.priority))
        )
        return let_in, startup_s + (line_s if idle else all_s)

    def _returning(self, promise: Promise, share: float, now_s: float) -> tuple[bool, float]:
        """The same for one that was refused before. Too early, it may use what stands idle, and is
        told again the time that it was told.
        """
        line_s, _ = self._waits_s(promise.priority, share, now_s)
        early_s = promise.back_at_s - now_s
        longest_s = self._max_wait_s * (_IDLE if early_s > 0 else 1)
        wait_s = self.startup_left_s(now_s) + line_s
        return line_s <= longest_s, wait_s

    def _waits_s(self, priority: int, share: float, now_s: float) -> tuple[float, float]:
        """Behind those who wait in the line; and behind those too who were told to come back. Of
        this priority or above, once a replica is up.
        """
        ahead = sum(self.line.shares[priority:])
        if self._kept:
            ahead += sum(ticket.share for ticket in self._kept)
        if ahead <= 0 and self._has_room(share, now_s):
            share = 0.0
        rate = self.drain.per_s
        rate = max(rate - self._flow.above_per_s(priority, now_s), rate * _LEAST_LEFT)
        promised = self.promises.expected_share(priority)
        return (ahead + share) / rate, (ahead + share + promised) / rate

    def _has_room(self, share: float, now_s: float) -> bool:
        return have_room(self.replicas, share * self.capacity.kv_cache_tokens, now_s)

    def _expiry(self, demand: Demand, now_s: float) -> float:
        """When it is to be told that it waits in vain."""
        longest_s = self._max_wait_s + self.startup_left_s(now_s)
        if demand.timeout_s is not None:
            longest_s = min(longest_s, demand.timeout_s - demand.service_s)
        return now_s + longest_s

    # Refusing

    def _displace(self, demand: Demand, now_s: float) -> bool:
        """Has the last of the line leave for one of higher priority."""
        last = self.line.last()
        if last is None or not self._outranks_last(demand.priority):
            return False
        self._dismiss(last, "queue_full", now_s)
        return True

    def _outranks_last(self, priority: int) -> bool:
        last = self.line.last()
        return last is not None and last.demand.priority < priority

    def _dismiss(self, ticket: Ticket, reason: Reason, now_s: float) -> None:
        self.withdraw(ticket)
        demand = ticket.demand
        if demand.timeout_s is not None:
            left_s = demand.timeout_s - (now_s - ticket.arrived_at_s)
            if left_s <= demand.service_s:
                reason = "deadline_unreachable"
        wait_s = self.startup_left_s(now_s) + self._waits_s(demand.priority, ticket.share, now_s)[0]
        refusal = self._refuse(demand, ticket.order, ticket.share, reason, wait_s, None, now_s)
        self._dismissed.append((ticket, refusal))

    def _refuse(
        self,
        demand: Demand,
        order: int | None,
        share: float,
        reason: Reason,
        wait_s: float,
        promise: Promise | None,
        now_s: float,
    ) -> Refusal:
        if demand.timeout_s is not None and demand.service_s > demand.timeout_s:
            return Refusal("deadline_too_short", wait_s, None)
        if not self.replicas:
            reason = "no_replica"
        if promise is not None and promise.back_at_s > now_s:
            return Refusal(reason, wait_s, math.ceil(promise.back_at_s - now_s))
        reserve_s = min(self._max_wait_s, wait_s) * _RESERVE
        if demand.timeout_s is not None:
            reserve_s = min(reserve_s, (demand.timeout_s - demand.service_s) / 2)
        retry_after_s = min(max(1, math.ceil(wait_s - reserve_s - 1e-6)), _LONGEST_RETRY_S)
        if promise is not None:
            self._keep(promise)
        if demand.key is not None:
            back_at_s = now_s + retry_after_s
            self.promises.make(
                Promise(
                    key=demand.key,
                    order=order,
                    priority=demand.priority,
                    share=share,
                    back_at_s=back_at_s,
                    lapses_at_s=back_at_s + retry_after_s,
                )
            )
            if self.news is not None:
                made = Made(demand.key, demand.priority, retry_after_s, 2 * retry_after_s)
                self.news.append(made)
        return Refusal(reason, wait_s, retry_after_s)

    def _keep(self, promise: Promise) -> None:
        self.promises.keep(promise)
        if self.news is not None:
            self.news.append(Kept(promise.key))
