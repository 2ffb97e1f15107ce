"""The outcomes of a run's requests, in columns: a million of them take some 60 MB."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from serving.simulator.request import Outcome
from serving.simulator.result import Slo, quantile

_NONE = -1.0
_MOST_WINDOWS = 120
_WIDTHS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of the requests that were sent in some interval. Percentiles cover the requests that
    were served, and are None if there were none; the time between tokens is each request's mean.
    `good` requests meet the SLO; `hit_rate` is the cached share of the prompt tokens that were
    read."""

    requests: int
    good: int
    refused: int
    prompt_tokens: int
    output_tokens: int
    hit_rate: float
    ttft_p50_s: float | None
    ttft_p90_s: float | None
    ttft_p99_s: float | None
    itl_p50_s: float | None
    itl_p90_s: float | None
    itl_p99_s: float | None

    @property
    def good_share(self) -> float:
        return self.good / self.requests if self.requests else 1.0


class Record:
    """Collects outcomes with `add`; the figures are computed when the run is over."""

    def __init__(self, slo: Slo) -> None:
        self.slo = slo
        self.preemptions = 0
        self._sent_s = array("d")
        self._ttft_s = array("d")
        self._itl_s = array("d")
        self._good = array("b")
        self._prompt_tokens = array("l")
        self._cached_tokens = array("l")
        self._output_tokens = array("l")

    def __len__(self) -> int:
        return len(self._sent_s)

    def add(self, outcome: Outcome) -> None:
        ttft_s, itl_s = outcome.ttft_s, outcome.itl_s
        self.preemptions += outcome.preemptions
        self._sent_s.append(outcome.sent_s)
        self._ttft_s.append(_NONE if ttft_s is None else ttft_s)
        self._itl_s.append(_NONE if itl_s is None else itl_s)
        self._good.append(self.slo.met(outcome))
        self._prompt_tokens.append(outcome.request.prompt_tokens)
        self._cached_tokens.append(outcome.cached_tokens)
        self._output_tokens.append(outcome.request.output_tokens)

    @property
    def span_s(self) -> float:
        """Seconds from 0 to the sending of the last request."""
        return max(self._sent_s, default=0.0)

    def total(self) -> Figures:
        return self._figures(range(len(self)))

    def windows(self) -> tuple[int, list[Figures]]:
        """The length in seconds of the windows, at most 120 of equal length from 0 on, and the
        figures of each."""
        span_s = self.span_s
        width_s = next((w for w in _WIDTHS_S if span_s < w * _MOST_WINDOWS), _WIDTHS_S[-1])
        rows: list[array[int]] = [array("l") for _ in range(int(span_s / width_s) + 1)]
        for row, sent_s in enumerate(self._sent_s):
            rows[int(sent_s / width_s)].append(row)
        return width_s, [self._figures(one) for one in rows]

    def _figures(self, rows: Sequence[int]) -> Figures:
        served = [row for row in rows if self._ttft_s[row] != _NONE]
        ttfts_s = sorted(self._ttft_s[row] for row in served)
        itls_s = sorted(self._itl_s[row] for row in served if self._itl_s[row] != _NONE)
        read = sum(self._prompt_tokens[row] for row in served)
        return Figures(
            requests=len(rows),
            good=sum(self._good[row] for row in rows),
            refused=len(rows) - len(served),
            prompt_tokens=read,
            output_tokens=sum(self._output_tokens[row] for row in served),
            hit_rate=sum(self._cached_tokens[row] for row in served) / max(read, 1),
            ttft_p50_s=_quantile(ttfts_s, 0.5),
            ttft_p90_s=_quantile(ttfts_s, 0.9),
            ttft_p99_s=_quantile(ttfts_s, 0.99),
            itl_p50_s=_quantile(itls_s, 0.5),
            itl_p90_s=_quantile(itls_s, 0.9),
            itl_p99_s=_quantile(itls_s, 0.99),
        )


def _quantile(values: Sequence[float], q: float) -> float | None:
    return quantile(values, q) if values else None
