"""What the service promises, and what counts against it."""

from dataclasses import dataclass

from serving.router.objectives import ITL_S, TTFT_S

BUDGET_WINDOW = "30d"
"""The time that an error budget is for."""


@dataclass(frozen=True, slots=True)
class Objective:
    name: str
    """The label `slo` of its recording rules."""
    title: str
    target: float
    """Of all events, the share that is to be good."""
    bad: str
    """Events that were not, as a rate; `{window}` is the time that it is over."""
    total: str
    min_bad: int
    """So many bad events at least make an alert: with little traffic one alone is a large share."""

    @property
    def budget(self) -> float:
        """The share of events that may be bad."""
        return 1 - self.target


BY = "by (namespace, model)"


def _rate(series: str) -> str:
    return f"sum {BY} (rate({series}[{{window}}]))"


def _slower_than(histogram: str, seconds: float) -> tuple[str, str]:
    """The rates of bad ones and of all."""
    total = _rate(f"mistral_serve_{histogram}_seconds_count")
    # Doubled: what is between braces is a name to `str.format`.
    good = _rate(f'mistral_serve_{histogram}_seconds_bucket{{{{le="{seconds}"}}}}')
    return f"{total} - {good}", total


AVAILABILITY = Objective(
    "availability",
    "Availability",
    0.999,
    # A 429 says honestly that the service is full: MistralQueueSaturated is for that. A request
    # that is wrong, or whose client has left, is neither good nor bad.
    bad=_rate('mistral_serve_requests_total{{outcome=~"failed|broken"}}'),
    total=_rate('mistral_serve_requests_total{{outcome=~"answered|failed|broken"}}'),
    min_bad=10,
)
_BAD, _TOTAL = _slower_than("time_to_first_token", TTFT_S)
TTFT = Objective("ttft", "TTFT", 0.99, _BAD, _TOTAL, min_bad=10)
_BAD, _TOTAL = _slower_than("inter_token_latency", ITL_S)
# An answer has some hundreds of gaps.
ITL = Objective("itl", "ITL", 0.99, _BAD, _TOTAL, min_bad=500)

OBJECTIVES = (AVAILABILITY, TTFT, ITL)


@dataclass(frozen=True, slots=True)
class BurnWindow:
    """The budget is spent `rate` times too fast over both windows, for a time."""

    long: str
    short: str
    rate: float
    wait: str
    severity: str


BURN_WINDOWS = (
    BurnWindow("1h", "5m", 14.4, "2m", "critical"),
    BurnWindow("6h", "30m", 6, "15m", "critical"),
    BurnWindow("1d", "2h", 3, "1h", "warning"),
    BurnWindow("3d", "6h", 1, "3h", "warning"),
)
"""Of the SRE workbook: 2 %, 5 %, 10 % and 10 % of a month's budget are gone when they fire."""


def error_ratio(window: str) -> str:
    """The series that a recording rule makes of an objective's bad events."""
    return f"mistral_serve:slo_errors:ratio_rate{window}"


def bad_events(window: str) -> str:
    return f"mistral_serve:slo_bad_events:increase{window}"
