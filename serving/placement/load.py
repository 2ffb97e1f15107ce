"""The work booked on a replica."""

from bisect import bisect_left, bisect_right
from collections.abc import Set
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from serving.decay import DecayingSum
from serving.placement.capacity import UNLIMITED, Capacity
from serving.placement.prefix import Prefix
from serving.placement.rates import Rates
from serving.placement.work import Work

_NO_ADAPTERS: Set[str] = frozenset()
T = TypeVar("T", float, npt.NDArray[np.float64])

_RECENT_S = 20.0
"""Time constant with which past prefill is forgotten. By simulation: with 8 s a few long prompts
close a replica that could take more, with 45 s a burst of them slows it down before it counts."""
_LEAST_DECODE = 0.25
"""Least share of an answer's time that must be left for decode steps; below it, the error of the
prefill time subtracted is too large."""


class ReplicaLoad:
    """The unfinished work of a replica: booked at the moment of decision, released at the first
    token and at the end.

    All tokens are as the router estimates them.
    """

    __slots__ = (
        "_background_tokens",
        "_booked_prefill_tokens",
        "_context_token_s",
        "_context_token_s_at",
        "_decoding_context_tokens",
        "_first_began_s",
        "_held",
        "_prefilling",
        "_recent_prefill_ms",
        "adapter_load_ms",
        "background_requests",
        "booked_s",
        "capacity",
        "context_tokens",
        "kv_tokens",
        "output_tokens",
        "prefill_tokens",
        "rates",
        "replica_id",
        "requests",
        "resident_adapters",
        "running_adapters",
    )

    def __init__(
        self,
        replica_id: str = "",
        capacity: Capacity = UNLIMITED,
        rates: Rates | None = None,
    ) -> None:
        self.replica_id = replica_id
        self.capacity = capacity
        self.rates = rates if rates is not None else Rates()
        self.requests = 0
        self.background_requests = 0
        """How many of them no one waits for."""
        self.prefill_tokens = 0
        """Uncached tokens of the prompts without a first token yet."""
        self.kv_tokens = 0
        """KV cache that the requests need until they end; shared prefixes count once."""
        self.context_tokens = 0
        """Tokens of all prompts and expected answers, which the attention of a decode step
        reads."""
        self.output_tokens = 0
        """Tokens of the expected answers."""
        self.booked_s = float("-inf")
        """Time of the last booking."""
        self.running_adapters: dict[str, int] = {}
        """The adapters of its requests, each with the number of them."""
        self.resident_adapters: Set[str] = _NO_ADAPTERS
        """The adapters that its engine has loaded, as far as it has said so."""
        self.adapter_load_ms = 0.0
        """The time that the load of another one takes."""
        self._background_tokens = 0
        self._prefilling: dict[Booking, None] = {}
        """Bookings in the order in which the engine prefills them."""
        self._first_began_s = 0.0
        self._booked_prefill_tokens = 0
        """Prefill tokens booked since the beginning, without bookings that ended before their first
        token."""
        self._recent_prefill_ms = DecayingSum(_RECENT_S)
        self._held: dict[int, int] = {}
        """The blocks of the prompts, each with the number of requests that hold it."""
        self._decoding_context_tokens = 0
        self._context_token_s = 0.0
        self._context_token_s_at = 0.0

    @property
    def utilization(self) -> float:
        """The share of the replica that is booked: of its KV cache or of its batch, whichever is
        fuller. 0 when idle; above 1 where requests queue in the engine."""
        return self.capacity.share_of(self.requests, self.kv_tokens)

    @property
    def interactive(self) -> tuple[int, int]:
        """The requests that someone waits for, and the KV cache tokens that they need at least."""
        kv_tokens = max(self.kv_tokens - self._background_tokens, 0)
        return self.requests - self.background_requests, kv_tokens

    def has_adapter(self, adapter: str) -> bool:
        """Whether a request of the adapter waits for no load of it, or for one that has begun."""
        return adapter in self.resident_adapters or adapter in self.running_adapters

    def book(self, work: Work, cached_tokens: int, now_s: float, learn: bool = True) -> "Booking":
        """Books a request that has `cached_tokens` cached here. With `learn`, its event times are
        exact enough to learn the rates from."""
        return Booking(self, work, cached_tokens, now_s, learn)

    def prefill_ms(self, now_s: float) -> float:
        """Returns the time until the booked prefill is done, in ms. What the first request has
        spent is subtracted; once it is overdue, the delay is added: a replica that hangs costs ever
        more."""
        waits, behind_ms, first_ms, began_s = self.prefill_terms()
        if not waits:
            return 0.0
        spent_ms = 1000 * (now_s - began_s)
        if waits < 0 and spent_ms > first_ms:
            next(iter(self._prefilling)).first_token(now_s)
            return self.prefill_ms(now_s)
        return remaining_prefill_ms(behind_ms, first_ms, began_s, now_s)

    def prefill_terms(self) -> tuple[float, float, float, float]:
        """Returns the terms of `prefill_ms`: 1 if there is prefill to be done, -1 if the end of the
        first request's prefill will not be seen, 0 if there is none; the time for those behind the
        first, in ms; the time that the first needs, in ms; and when it began, in s."""
        if not self._prefilling:
            return 0.0, 0.0, 0.0, 0.0
        first = next(iter(self._prefilling))
        each_ms = self.rates.prefill_ms_per_token
        return (
            1.0 if first.streamed else -1.0,
            (self.prefill_tokens - first.prefill_tokens) * each_ms,
            first.prefill_tokens * each_ms + self.rates.overhead_ms,
            self._first_began_s,
        )

    def kv_tokens_of(self, work: Work, cached_tokens: int) -> int:
        """Returns the tokens that the request would add to `kv_tokens`, with `cached_tokens` cached
        here."""
        tokens = max(work.prompt_tokens, work.prefix.tokens) + work.output_tokens
        if not cached_tokens or not self._held:
            return tokens
        hashes, ends_tokens = work.prefix.hashes, work.prefix.ends_tokens
        cached = range(bisect_right(ends_tokens, cached_tokens))
        # A request that holds a block holds all before it.
        held = bisect_left(cached, True, key=lambda i: hashes[i] not in self._held)
        return tokens - ends_tokens[held - 1] if held else tokens

    def has_headroom(self, work: Work, cached_tokens: int) -> bool:
        """Whether the request can run at once, beside all that is booked."""
        return (
            self.requests < self.capacity.max_num_seqs
            and self.kv_tokens + self.kv_tokens_of(work, cached_tokens)
            <= self.capacity.kv_cache_tokens
        )

    def context_headroom_tokens(self, max_itl_ms: float, now_s: float) -> float:
        """Returns how much more context the replica could decode within `max_itl_ms`, if prefill
        takes as much of its time as recently and decode steps have the rest."""
        prefill_share = self._recent_prefill_ms.at(now_s) / (1000 * _RECENT_S)
        step_ms = max_itl_ms * (1 - prefill_share)
        return self.rates.context_tokens(step_ms) - self.context_tokens

    def headroom_wait_ms(self, work: Work, cached_tokens: int) -> float:
        """Returns the wait for headroom, in ms: until enough requests have ended to make way for
        this one in the KV cache and the batch. A full replica's requests all end within the time of
        one answer."""
        needed = self.kv_tokens + self.kv_tokens_of(work, cached_tokens)
        kv_cache_tokens, max_num_seqs = self.capacity.kv_cache_tokens, self.capacity.max_num_seqs
        excess = max(
            (needed - kv_cache_tokens) / kv_cache_tokens,
            (self.requests + 1 - max_num_seqs) / max_num_seqs,
        )
        if excess <= 0 or not self.requests:
            return 0.0
        context_tokens = min(self.context_tokens, kv_cache_tokens)
        steps = self.output_tokens / self.requests
        return excess * steps * self.rates.step_ms(context_tokens)

    def _waiting_tokens(self, now_s: float) -> float:
        """Returns the prefill tokens that the engine has still to process."""
        if not self._prefilling:
            return 0.0
        first = next(iter(self._prefilling))
        spent_ms = 1000 * (now_s - self._first_began_s)
        done = spent_ms / self.rates.prefill_ms_per_token
        return self.prefill_tokens - min(done, first.prefill_tokens)

    def _prefilled_tokens(self, now_s: float) -> float:
        """Returns the tokens that the engine has prefilled since the beginning."""
        return self._booked_prefill_tokens - self._waiting_tokens(now_s)

    def _add_prefill(self, booking: "Booking", now_s: float) -> None:
        prefill_ms = booking.prefill_tokens * self.rates.prefill_ms_per_token
        self._recent_prefill_ms.add(prefill_ms, now_s)
        self._booked_prefill_tokens += booking.prefill_tokens
        if not self._prefilling:
            self._first_began_s = now_s
        self._prefilling[booking] = None
        self.prefill_tokens += booking.prefill_tokens

    def _end_prefill(self, booking: "Booking", now_s: float) -> None:
        if next(iter(self._prefilling)) is booking:
            self._first_began_s = now_s
        del self._prefilling[booking]
        self.prefill_tokens -= booking.prefill_tokens

    def _hold(self, prefix: Prefix) -> None:
        held, previous_end = self._held, 0
        for block, end in zip(prefix.hashes, prefix.ends_tokens, strict=True):
            users = held.get(block, 0)
            held[block] = users + 1
            if not users:
                self.kv_tokens += end - previous_end
            previous_end = end

    def _let_go(self, prefix: Prefix) -> None:
        held, previous_end = self._held, 0
        for block, end in zip(prefix.hashes, prefix.ends_tokens, strict=True):
            users = held[block] - 1
            if users:
                held[block] = users
            else:
                del held[block]
                self.kv_tokens -= end - previous_end
            previous_end = end

    def _decode(self, context_tokens: int, now_s: float) -> None:
        self._integrate(now_s)
        self._decoding_context_tokens += context_tokens

    def _integrate(self, now_s: float) -> float:
        """Returns the time integral of the context being decoded."""
        self._context_token_s += self._decoding_context_tokens * (now_s - self._context_token_s_at)
        self._context_token_s_at = now_s
        return self._context_token_s


def remaining_prefill_ms(behind_ms: T, first_ms: T, began_s: T, now_s: float) -> T:
    """Computes `ReplicaLoad.prefill_ms` from the terms of `prefill_terms`, as scalars or arrays."""
    return behind_ms + abs(first_ms - 1000 * (now_s - began_s))


class Booking:
    """A request's booking on a replica, from the decision to its end. Each of its events counts
    once; a repeated call is ignored."""

    __slots__ = (
        "_adapter",
        "_ahead_tokens",
        "_background",
        "_booked_s",
        "_context_token_s",
        "_ended",
        "_first_token_s",
        "_learn",
        "_output_tokens",
        "_own_tokens",
        "_prefilled_tokens",
        "_prompt_tokens",
        "load",
        "prefill_tokens",
        "prefix",
        "streamed",
    )

    def __init__(
        self, load: ReplicaLoad, work: Work, cached_tokens: int, now_s: float, learn: bool
    ) -> None:
        self.load = load
        self.streamed = work.streamed
        self._background = work.background
        self.prefill_tokens = max(work.prompt_tokens - cached_tokens, 0)
        self.prefix = work.prefix
        self._prompt_tokens, self._output_tokens = work.prompt_tokens, work.output_tokens
        self._booked_s = now_s
        self._first_token_s: float | None = None
        self._ended = False
        self._context_token_s = 0.0
        self._prefilled_tokens = 0.0
        in_blocks = work.prefix.ends_tokens[-1] if work.prefix.ends_tokens else 0
        self._own_tokens = work.prompt_tokens - in_blocks
        self._own_tokens += work.output_tokens
        # A request that waits for headroom or an adapter says nothing of the prefill rate.
        self._learn = learn and work.streamed and load.has_headroom(work, cached_tokens)
        self._adapter = adapter = work.adapter
        if adapter:
            self._learn = self._learn and adapter in load.resident_adapters
            load.running_adapters[adapter] = load.running_adapters.get(adapter, 0) + 1
        self._ahead_tokens = load._waiting_tokens(now_s)
        load._hold(self.prefix)
        load._add_prefill(self, now_s)
        load.requests += 1
        load.kv_tokens += self._own_tokens
        load.context_tokens += self._context_tokens
        load.output_tokens += self._output_tokens
        if self._background:
            load.background_requests += 1
            load._background_tokens += self._context_tokens
        load.booked_s = now_s

    @property
    def _context_tokens(self) -> int:
        return self._prompt_tokens + self._output_tokens

    @property
    def has_first_token(self) -> bool:
        return self._first_token_s is not None

    def first_token(self, now_s: float) -> None:
        """Records that the prompt has been read: releases its prefill and learns from the time it
        took.

        Prompts ahead of it whose first tokens cannot be seen have been read too.
        """
        if self._ended or self._first_token_s is not None:
            return
        load = self.load
        if self.streamed:
            for ahead in list(load._prefilling):
                if ahead is self:
                    break
                if not ahead.streamed:
                    ahead.first_token(now_s)
            if self._learn:
                tokens = self._ahead_tokens + self.prefill_tokens
                load.rates.observe_first_token(tokens, 1000 * (now_s - self._booked_s))
        load._end_prefill(self, now_s)
        load._decode(self._context_tokens, now_s)
        self._first_token_s = now_s
        self._context_token_s = load._context_token_s
        self._prefilled_tokens = load._prefilled_tokens(now_s)

    def end(self, now_s: float, output_tokens: int | None = None) -> None:
        """Releases all that is left, with any outcome. `output_tokens` is the length of an answer
        that was seen from its first token to its last; the time of a step is learnt from it."""
        if self._ended:
            return
        self._ended = True
        load = self.load
        if self._first_token_s is None:
            load._end_prefill(self, now_s)
            load._booked_prefill_tokens -= self.prefill_tokens
        else:
            load._decode(-self._context_tokens, now_s)
            if self._learn and output_tokens is not None and output_tokens > 1:
                self._learn_steps(now_s, self._first_token_s, output_tokens - 1)
        load._let_go(self.prefix)
        load.requests -= 1
        load.kv_tokens -= self._own_tokens
        load.context_tokens -= self._context_tokens
        load.output_tokens -= self._output_tokens
        if self._adapter:
            running = load.running_adapters
            running[self._adapter] -= 1
            if not running[self._adapter]:
                del running[self._adapter]
        if self._background:
            load.background_requests -= 1
            load._background_tokens -= self._context_tokens

    def _learn_steps(self, now_s: float, first_token_s: float, steps: int) -> None:
        """Learns the time of a step from what others' prefill left of the answer's time."""
        load, seconds = self.load, now_s - first_token_s
        others_tokens = load._prefilled_tokens(now_s) - self._prefilled_tokens
        decode_s = seconds - others_tokens * load.rates.prefill_ms_per_token / 1000
        if decode_s > seconds * _LEAST_DECODE:
            context_tokens = (load._context_token_s - self._context_token_s) / seconds
            load.rates.observe_steps(context_tokens, 1000 * decode_s / steps)
