"""One vLLM engine: continuous batching with chunked prefill over a block cache, step by step in
simulated time.

It follows vLLM's V1 scheduler. Running sequences come first: each decodes one token or prefills a
chunk with the rest of the token budget. Then waiting ones start in order of arrival, as long as
their whole prompt finds blocks. When blocks run out the youngest running sequence is preempted and
computed again. With asynchronous scheduling a step is composed while the one before it runs. Steps
that only decode are skipped many at a time, until a sequence ends or a request arrives.
"""

import heapq
import math
from collections import deque
from dataclasses import dataclass, field

from serving.simulator.block_cache import BlockCache, Piece
from serving.simulator.host_cache import HostCache
from serving.simulator.request import Outcome
from serving.simulator.step_time import StepTime

_ITL_BUCKETS_PER_E = 40


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """The parameters of an engine; the defaults are vLLM's."""

    step_time: StepTime
    kv_cache_tokens: int
    max_num_batched_tokens: int = 8192
    max_num_seqs: int = 256
    block_tokens: int = 16
    context_tokens: int | None = None
    """Longest prompt and answer together; None: as many tokens as the KV cache holds."""
    async_scheduling: bool = True
    """Whether a step is composed while the one before it runs, which vLLM does on GPUs."""
    request_overhead_s: float = 0.008
    """Time from the router's sending to the scheduler's queue: HTTP, template, tokenizer."""
    host_kv_cache_tokens: int = 0
    """Tokens of earlier prompts that main memory keeps."""
    host_token_s: float = 0.0
    """Time to copy one of them from there. Here the step waits for it, while vLLM copies beside
    other steps."""


@dataclass(slots=True, eq=False)
class Sequence:
    """A request in an engine. `computed` of its `tokens` to prefill are in the KV cache. Its blocks
    are those of `pieces` and nameless ones, which no other sequence can find."""

    outcome: Outcome
    ready_s: float
    tokens: int
    outputs_left: int
    computed: int = 0
    stretch: int = 0
    pieces: list[Piece] = field(default_factory=list)
    nameless_blocks: int = 0
    decode_from: int = -1
    last_step: int = -1


class Engine:
    """An engine in simulated time. `submit` and `advance` are called in order of time; `next_s` is
    the time of the next `advance`."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.cache = BlockCache(spec.kv_cache_tokens // spec.block_tokens, spec.block_tokens)
        self._host: HostCache | None = None
        if host_blocks := spec.host_kv_cache_tokens // spec.block_tokens:
            self._host = HostCache(host_blocks, spec.block_tokens)
        self._copied_blocks = 0
        """Those that the step copies from main memory."""
        self.next_s: float | None = None
        self.busy_s = 0.0
        self.itl_histogram: dict[int, int] = {}
        self._waiting: deque[Sequence] = deque()
        self._running: dict[Sequence, None] = {}
        self._prefilling: list[Sequence] = []
        self._chunks: list[tuple[Sequence, int]] = []
        self._ends: list[tuple[int, int, Sequence]] = []
        self._order = 0
        self._step = 0
        self._steps = 0
        self._decoding = 0
        self._context_tokens = 0
        self._block_due = [0] * spec.block_tokens
        self._began_s = 0.0
        self._last_began_s = 0.0
        self._preempted = False

    def submit(self, outcome: Outcome, now_s: float) -> None:
        """Queues a request. Raises ValueError if it is longer than the context, or if the KV cache
        could never hold it.
        """
        request = outcome.request
        tokens = request.prompt_tokens + request.output_tokens
        if self.spec.context_tokens is not None and tokens > self.spec.context_tokens:
            raise ValueError("the request is longer than the context")
        if self._blocks(tokens) > self.cache.blocks:
            raise ValueError("the request needs more than the whole KV cache")
        ready_s = now_s + self.spec.request_overhead_s
        first = not self._waiting
        self._waiting.append(
            Sequence(outcome, ready_s, request.prompt_tokens, request.output_tokens)
        )
        if self._steps == 0:
            self.next_s = ready_s if self.next_s is None else self.next_s
        elif first and self._steps > 1 and len(self._running) < self.spec.max_num_seqs:
            self._shorten(ready_s)

    def advance(self, now_s: float) -> tuple[list[Outcome], list[Outcome]]:
        """Ends the current step and begins the next. Returns the sequences that got their first
        token in it and those that got their last, with these times set."""
        firsts: list[Outcome] = []
        ends: list[Outcome] = []
        if self._steps:
            self._finish_step(now_s, firsts, ends)
        self._begin_step(now_s)
        return firsts, ends

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    def _begin_step(self, now_s: float) -> None:
        composed_before = self._running and self.spec.async_scheduling
        ready_s = self._last_began_s if composed_before else now_s
        self._chunks = []
        self._copied_blocks = 0
        self._preempted = False
        self._make_room(0)
        budget = self.spec.max_num_batched_tokens - self._decoding
        for sequence in self._prefilling[:]:
            if budget <= 0 or sequence not in self._running:
                break
            chunk = min(sequence.tokens - sequence.computed, budget)
            self._make_room(self._new_blocks(sequence, chunk))
            if sequence not in self._running:
                break
            budget -= self._add_chunk(sequence, chunk)
        while (
            self._waiting
            and budget > 0
            and not self._preempted
            and len(self._running) < self.spec.max_num_seqs
            and self._waiting[0].ready_s <= ready_s
            and self._look_up(self._waiting[0])
        ):
            sequence = self._waiting.popleft()
            self._running[sequence] = None
            self._prefilling.append(sequence)
            chunk = min(sequence.tokens - sequence.computed, budget)
            budget -= self._add_chunk(sequence, chunk)
        self._time_step(now_s)

    def _make_room(self, blocks: int) -> None:
        """Preempts sequences, the youngest first, until `blocks` and those of the decode step are
        free."""
        while self._running and blocks + self._blocks_due(1) > self.cache.available:
            self._preempt()
            self._preempted = True

    def _new_blocks(self, sequence: Sequence, chunk: int) -> int:
        return self._blocks(sequence.computed + chunk) - self._blocks(sequence.computed)

    def _add_chunk(self, sequence: Sequence, chunk: int) -> int:
        blocks = self._new_blocks(sequence, chunk)
        self.cache.take(blocks)
        sequence.nameless_blocks += blocks
        self._chunks.append((sequence, chunk))
        return chunk

    def _time_step(self, now_s: float) -> None:
        step_time = self.spec.step_time
        if self._chunks:
            self._steps = 1
            prefill_tokens = sum(chunk for _, chunk in self._chunks)
            reads = sum(chunk * (seq.computed + chunk / 2) for seq, chunk in self._chunks)
            duration_s = step_time.mixed_s(
                prefill_tokens, reads, self._decoding, self._context_tokens
            )
            duration_s += self._copied_blocks * self.spec.block_tokens * self.spec.host_token_s
            self._last_began_s = now_s
        elif self._decoding:
            self._steps = self._decode_steps()
            duration_s = step_time.decode_s(self._steps, self._decoding, self._context_tokens)
            self._set_last_began(now_s)
        else:
            self._steps = 0
            self.next_s = max(self._waiting[0].ready_s, now_s) if self._waiting else None
            return
        self._began_s = now_s
        self.next_s = now_s + duration_s
        self.cache.take(self._blocks_due(self._steps))

    def _decode_steps(self) -> int:
        """Number of steps that can be skipped: until a sequence ends or blocks run out."""
        while self._ends[0][2].last_step != self._ends[0][0]:
            heapq.heappop(self._ends)
        steps = self._ends[0][0] - self._step
        if self._preempted or (self._waiting and self._waiting[0].ready_s > self._last_began_s):
            return 1
        available = self.cache.available
        if self._blocks_due(steps) > available:
            low, high = 1, steps
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (
                    (middle, high) if self._blocks_due(middle) <= available else (low, middle)
                )
            steps = low
        return steps

    def _shorten(self, ready_s: float) -> None:
        """Shortens a run of skipped steps for a request that arrives: it joins the step after next,
        or the next without asynchronous scheduling."""
        done = self.spec.step_time.decode_steps_in(
            ready_s - self._began_s, self._decoding, self._context_tokens
        )
        steps = done + (2 if self.spec.async_scheduling else 1)
        if steps >= self._steps:
            return
        self.cache.release((), self._blocks_due(self._steps) - self._blocks_due(steps))
        self._steps = steps
        self.next_s = self._began_s + self.spec.step_time.decode_s(
            steps, self._decoding, self._context_tokens
        )
        self._set_last_began(self._began_s)

    def _set_last_began(self, began_s: float) -> None:
        self._last_began_s = began_s + self.spec.step_time.decode_s(
            self._steps - 1, self._decoding, self._context_tokens
        )

    def _finish_step(self, now_s: float, firsts: list[Outcome], ends: list[Outcome]) -> None:
        steps, decoding = self._steps, self._decoding
        duration_s = now_s - self._began_s
        self.busy_s += duration_s
        if decoding:
            bucket = round(math.log(duration_s / steps) * _ITL_BUCKETS_PER_E)
            self.itl_histogram[bucket] = self.itl_histogram.get(bucket, 0) + steps * decoding
        self._step += steps
        self._context_tokens += decoding * steps
        while self._ends and self._ends[0][0] <= self._step:
            last_step, _, sequence = heapq.heappop(self._ends)
            if sequence.last_step == last_step:
                self._stop_decoding(sequence)
                self._end(sequence, now_s, ends)
        for sequence, chunk in self._chunks:
            sequence.computed += chunk
            self._name_blocks(sequence)
            if sequence.computed < sequence.tokens:
                continue
            self._prefilling.remove(sequence)
            sequence.outputs_left -= 1
            if sequence.outcome.first_token_s is None:
                sequence.outcome.first_token_s = now_s
                firsts.append(sequence.outcome)
            if sequence.outputs_left:
                self._start_decoding(sequence)
            else:
                self._end(sequence, now_s, ends)

    def _start_decoding(self, sequence: Sequence) -> None:
        sequence.decode_from = self._step
        sequence.last_step = self._step + sequence.outputs_left
        self._order += 1
        heapq.heappush(self._ends, (sequence.last_step, self._order, sequence))
        self._decoding += 1
        self._context_tokens += sequence.tokens
        self._block_due[(self._step - sequence.tokens) % self.spec.block_tokens] += 1

    def _stop_decoding(self, sequence: Sequence) -> None:
        """Ends a run of decode steps: afterwards `computed` counts the decoded tokens too."""
        self._block_due[(sequence.decode_from - sequence.tokens) % self.spec.block_tokens] -= 1
        decoded = self._step - sequence.decode_from
        sequence.computed = sequence.tokens + decoded
        sequence.nameless_blocks += self._blocks(sequence.computed) - self._blocks(sequence.tokens)
        sequence.outputs_left -= decoded
        self._decoding -= 1
        self._context_tokens -= sequence.computed
        sequence.last_step = sequence.decode_from = -1

    def _end(self, sequence: Sequence, now_s: float, ends: list[Outcome]) -> None:
        del self._running[sequence]
        sequence.outcome.end_s = now_s
        ends.append(sequence.outcome)
        request = sequence.outcome.request
        whole = sequence.computed // self.spec.block_tokens
        self._name(
            sequence, request.answer_hash, whole - request.prompt_tokens // self.spec.block_tokens
        )
        self.cache.release(sequence.pieces, sequence.nameless_blocks)

    def _preempt(self) -> None:
        """Preempts the youngest running sequence: it goes back to the head of the queue, to be
        computed again with the tokens that it has generated."""
        sequence, _ = self._running.popitem()
        if sequence.last_step >= 0:
            self._stop_decoding(sequence)
        else:
            self._prefilling.remove(sequence)
        self.cache.release(sequence.pieces, sequence.nameless_blocks)
        request = sequence.outcome.request
        sequence.outcome.preemptions += 1
        sequence.tokens = request.prompt_tokens + request.output_tokens - sequence.outputs_left
        sequence.pieces = []
        sequence.nameless_blocks = sequence.stretch = sequence.computed = 0
        self._waiting.appendleft(sequence)

    def _look_up(self, sequence: Sequence) -> bool:
        """Takes the cached beginning of the prompt if all of the rest fits. The last token is
        always computed."""
        prefix = sequence.outcome.request.prefix
        pieces, stretch = self.cache.find(prefix.hashes, prefix.ends_tokens)
        found = sum(piece.blocks for piece in pieces)
        cached = min(found, (sequence.tokens - 1) // self.spec.block_tokens)
        idle = sum(piece.blocks for piece in pieces if piece.users == 0)
        needed = self._blocks(sequence.tokens) - cached + idle + self._blocks_due(1)
        if needed > self.cache.available:
            return False
        self.cache.hold(pieces)
        sequence.pieces = pieces
        sequence.stretch = stretch
        sequence.computed = (cached + self._copy(sequence, cached)) * self.spec.block_tokens
        if sequence.outcome.first_token_s is None:
            sequence.outcome.cached_tokens = sequence.computed
        return True

    def _copy(self, sequence: Sequence, cached: int) -> int:
        """Copies the blocks that main memory keeps beyond those `cached`. Returns how many."""
        if self._host is None:
            return 0
        prefix = sequence.outcome.request.prefix
        kept = self._host.find(prefix.hashes, prefix.ends_tokens, sequence.stretch)
        copied = max(min(kept, (sequence.tokens - 1) // self.spec.block_tokens) - cached, 0)
        self.cache.take(copied)
        sequence.nameless_blocks += copied
        self._copied_blocks += copied
        return copied

    def _name_blocks(self, sequence: Sequence) -> None:
        """Puts the stretches that the sequence has computed whole into the cache."""
        prefix = sequence.outcome.request.prefix
        stretch = sequence.stretch
        begin = prefix.ends_tokens[stretch - 1] // self.spec.block_tokens if stretch else 0
        while stretch < len(prefix.hashes) and prefix.ends_tokens[stretch] <= sequence.computed:
            end = prefix.ends_tokens[stretch] // self.spec.block_tokens
            self._name(sequence, prefix.hashes[stretch], end - begin)
            begin = end
            stretch += 1
        sequence.stretch = stretch

    def _name(self, sequence: Sequence, key: int, blocks: int) -> None:
        if self._host is not None and blocks > 0:
            self._host.put(key, blocks)
        last = sequence.pieces[-1] if sequence.pieces else None
        if last is not None and last.key == key:
            grown = min(max(blocks - last.blocks, 0), sequence.nameless_blocks)
            last.blocks += grown
            sequence.nameless_blocks -= grown
        elif 0 < blocks <= sequence.nameless_blocks:
            piece = self.cache.keep(key, blocks)
            if piece is not None:
                sequence.pieces.append(piece)
                sequence.nameless_blocks -= blocks

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.spec.block_tokens)

    def _blocks_due(self, steps: int) -> int:
        """Number of new blocks that decoding takes in the next `steps` steps."""
        block_tokens = self.spec.block_tokens
        if steps == 1:
            return self._block_due[self._step % block_tokens]
        rounds, rest = divmod(steps, block_tokens)
        begin = self._step
        due = rounds * self._decoding
        for step in range(begin, begin + rest):
            due += self._block_due[step % block_tokens]
        return due


def histogram_quantile_s(histogram: dict[int, int], quantile: float) -> float:
    """A quantile of an engine's `itl_histogram`, or of several added up; 0 if it is empty."""
    wanted = quantile * sum(histogram.values())
    seen = 0
    for bucket in sorted(histogram):
        seen += histogram[bucket]
        if seen >= wanted:
            return math.exp(bucket / _ITL_BUCKETS_PER_E)
    return 0.0
