"""The traffic to plan for, and its simulation for some minutes."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.simulator.ceiling import hit_rate_ceiling
from serving.simulator.load import Kind, LoadConfig
from serving.simulator.trace import read_trace

_REQUESTS = 2000
"""Number of requests to simulate, if they arrive within the two times below."""
_LEAST_S = 120.0
_MOST_S = 7200.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """Rates, on average and at the peak of a day, and mean lengths. `cached_tokens` of each prompt
    are a prefix that other prompts share."""

    base_per_s: float
    peak_per_s: float
    prompt_tokens: float
    output_tokens: float
    cached_tokens: float
    prefixes: int = 0
    """Number of different prompt prefixes."""
    trace: Path | None = None
    trace_s: float = 0.0
    lengths: Sequence[int] = ()
    """Tokens of the trace's prompts and answers together, in order."""

    @property
    def uncached_tokens(self) -> float:
        return self.prompt_tokens - self.cached_tokens

    def longer_than(self, context_tokens: int) -> float:
        """The share of requests that exceed such a context."""
        if self.trace is not None:
            return 1 - bisect_right(self.lengths, context_tokens) / len(self.lengths)
        spare = context_tokens - self.cached_tokens
        question, answer = self.uncached_tokens, self.output_tokens
        if spare <= 0:
            return 1.0
        if abs(question - answer) < 1e-6 * answer:
            return (1 + spare / question) * math.exp(-spare / question)
        # The sum of two exponential lengths.
        parts = question * math.exp(-spare / question) - answer * math.exp(-spare / answer)
        return parts / (question - answer)

    def uncached_quantile(self, q: float) -> float | None:
        """The given quantile of uncached prompt tokens; None for a trace."""
        return None if self.trace is not None else self.uncached_tokens * math.log(1 / (1 - q))

    def load(self, per_s: float) -> LoadConfig:
        """Some minutes of load at that rate, for the simulator."""
        seconds = math.ceil(min(max(_REQUESTS / per_s, _LEAST_S), _MOST_S))
        if self.trace is not None:
            return LoadConfig(
                trace=self.trace,
                repeat=math.ceil(seconds / self.trace_s),
                rate_per_s=per_s,
                max_requests=max(round(per_s * seconds), 1),
            )
        return LoadConfig(
            kind=Kind.sessions,
            turns=1,
            rate_per_s=per_s,
            duration_s=seconds,
            prefixes=self.prefixes,
            prefix_tokens=round(self.cached_tokens),
            question_tokens=round(self.uncached_tokens),
            output_tokens=round(self.output_tokens),
        )


def made_up(
    base_per_s: float,
    peak_per_s: float,
    prompt_tokens: int,
    output_tokens: int,
    prefix_share: float,
    prefixes: int,
) -> Traffic:
    """A generated load. Lengths are exponential around the means, except those of the prefixes,
    which have `prefix_share` of a mean prompt."""
    cached_tokens = min(round(prompt_tokens * prefix_share), prompt_tokens - 1)
    return Traffic(
        base_per_s, peak_per_s, prompt_tokens, output_tokens, cached_tokens, max(prefixes, 1)
    )


def recorded(path: Path, base_per_s: float | None, peak_per_s: float | None) -> Traffic:
    """The load of a trace. Without rates it has the trace's own, and no peak. Raises TraceError or
    OSError for a file that is not a trace."""
    arrivals = read_trace(path)
    requests = [arrival.request for arrival in arrivals]
    prompt_tokens = sum(request.prompt_tokens for request in requests) / len(requests)
    trace_s = max(arrivals[-1].at_s, 1e-3)
    base = base_per_s or round(len(requests) / trace_s, 3)
    return Traffic(
        base,
        base if peak_per_s is None else peak_per_s,
        prompt_tokens,
        sum(request.output_tokens for request in requests) / len(requests),
        prompt_tokens * hit_rate_ceiling(arrivals),
        trace=path,
        trace_s=trace_s,
        lengths=sorted(request.prompt_tokens + request.output_tokens for request in requests),
    )
