"""The service level objectives, and which events count against them."""

from dataclasses import dataclass

from serving.router.telemetry.objectives import ITL_S, TTFT_S

BUDGET_WINDOW = "30d"
"""The period of an error budget."""


@dataclass(frozen=True, slots=True)
class Objective:
    name: str
    """The value of the label `slo` in its recording rules."""
    title: str
    target: float
    """The share of all events that must be good."""
    bad: str
    """The rate of bad events; `{window}` stands for the range."""
    total: str
    min_bad: int
    """The least number of bad events for an alert: in little traffic, one is a large share."""

    @property
    def budget(self) -> float:
        """The share of all events that may be bad."""
        return 1 - self.target


BY = "by (namespace, model)"


def _rate(series: str) -> str:
    return f"sum {BY} (rate({series}[{{window}}]))"


def _slower_than(histogram: str, seconds: float) -> tuple[str, str]:
    """The rate of events slower than that, and the rate of all events."""
    total = _rate(f"mistral_serve_{histogram}_seconds_count")
    # Doubled: what is between braces is a name to `str.format`.
    good = _rate(f'mistral_serve_{histogram}_seconds_bucket{{{{le="{seconds}"}}}}')
    return f"{total} - {good}", total


AVAILABILITY = Objective(
    "availability",
    "Availability",
    0.999,
    # MistralQueueSaturated covers refusals with 429. Invalid requests and requests whose client
    # disconnected are neither good nor bad.
    bad=_rate('mistral_serve_requests_total{{outcome=~"failed|broken"}}'),
    total=_rate('mistral_serve_requests_total{{outcome=~"answered|failed|broken"}}'),
    min_bad=10,
)
_BAD, _TOTAL = _slower_than("time_to_first_token", TTFT_S)
TTFT = Objective("ttft", "TTFT", 0.99, _BAD, _TOTAL, min_bad=10)
_BAD, _TOTAL = _slower_than("inter_token_latency", ITL_S)
# One answer has hundreds of gaps.
ITL = Objective("itl", "ITL", 0.99, _BAD, _TOTAL, min_bad=500)

OBJECTIVES = (AVAILABILITY, TTFT, ITL)


@dataclass(frozen=True, slots=True)
class BurnWindow:
    """An alert fires if the budget is spent `rate` times too fast over both windows, for `wait`."""

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
"""The windows of Google's SRE workbook: when they fire, 2 %, 5 %, 10 % and 10 % of the budget of a
month are spent."""


def error_ratio(window: str) -> str:
    """The name of the recorded share of bad events."""
    return f"mistral_serve:slo_errors:ratio_rate{window}"


def bad_events(window: str) -> str:
    """The name of the recorded number of bad events."""
    return f"mistral_serve:slo_bad_events:increase{window}"
