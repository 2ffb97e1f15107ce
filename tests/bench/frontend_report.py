"""What the front-end benchmark measured, as tables."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import Console

from tests.bench.relay_report import machine, new_table

CARD, NO_PARSER, OURS = "vLLM", "no parser", "engine"
TTFT, BUSY_TTFT, REQUEST_CPU = "TTFT ms", "TTFT ms, 16 at once", "CPU ms a request"
TOKEN_CPU, BUSY_TOKEN_CPU = "CPU µs a streamed token", "CPU µs a token, 64 streams"

TARGETS = (
    (TTFT, "plain", "plain", 0.9),
    (BUSY_TTFT, "plain", "plain", 0.9),
    (TTFT, "JSON", "JSON", 1.0),
    (BUSY_TTFT, "JSON", "JSON", 1.0),
    (TTFT, "tools", "plain", 1.0),
    (TTFT, "new tools", "plain", 1.2),
    (REQUEST_CPU, "plain", "plain", 0.75),
    (BUSY_TOKEN_CPU, "plain", "plain", 0.45),
)
"""Figures, our kind of request, the kind that it is compared with of vLLM without its tool parser,
and the most that the ratio may be."""


@dataclass(frozen=True, slots=True)
class Round:
    """The figures of one kind of request on one server. `ttft_s` is of one-token requests, one at a
    time, and `busy_ttft_s` 16 at a time; `cpu_s` is of a one-token request and `token_cpu_s` of a
    streamed token, both in the API server's process alone."""

    ttft_s: float
    busy_ttft_s: float
    cpu_s: float
    token_cpu_s: float
    busy_token_cpu_s: float
    """CPU of a streamed token in 64 streams at once."""


Measured = dict[str, dict[str, list[Round]]]
"""The figures by kind of request and server, one for each round, in order."""

FIGURES: dict[str, tuple[Callable[[Round], float], float, str]] = {
    TTFT: (lambda r: r.ttft_s, 1e3, ".1f"),
    BUSY_TTFT: (lambda r: r.busy_ttft_s, 1e3, ".0f"),
    REQUEST_CPU: (lambda r: r.cpu_s, 1e3, ".1f"),
    TOKEN_CPU: (lambda r: r.token_cpu_s, 1e6, ".0f"),
    BUSY_TOKEN_CPU: (lambda r: r.busy_token_cpu_s, 1e6, ".0f"),
}


def ratio(runs: Mapping[str, list[Round]], to: str, figure: Callable[[Round], float]) -> float:
    """The engine's figure over that of another server: the median of the rounds' ratios."""
    pairs = zip(runs[OURS], runs[to], strict=True)
    return median(figure(ours) / figure(other) for ours, other in pairs)


def show(console: Console, measured: Measured, first_s: Mapping[str, float]) -> None:
    for name, fact in machine().items():
        console.print(f"{name}: {fact}", highlight=False, markup=False)
    servers = next(iter(measured.values()))
    others = [name for name in servers if name != OURS]
    table = new_table(
        f"Front end, medians over {len(servers[OURS])} rounds",
        "",
        "request",
        *others,
        OURS,
        *(f"engine /\n{name}" for name in others),
    )
    for name, (figure, scale, form) in FIGURES.items():
        for kind, runs in measured.items():
            table.add_row(
                name,
                kind,
                *(f"{scale * median(map(figure, runs[s])):{form}}" for s in (*others, OURS)),
                *(f"{ratio(runs, to, figure):.2f}" for to in others),
                end_section=kind == list(measured)[-1],
            )
    table.add_row("First request, s", "plain", *(f"{first_s[s]:.1f}" for s in (*others, OURS)))
    console.print(table)
    console.print(
        f"{CARD}: as the model card starts it. {NO_PARSER}: without its tool parser; its requests"
        " with tools have tool_choice none. TTFT: of requests for one token.\nCPU: of the API"
        " server's process, without the engine's. First request: of 220 tokens, after the start.",
        highlight=False,
    )
    console.print(targets_table(measured))


def targets_table(measured: Measured) -> Any:
    table = new_table("Targets and measured", "figure", "ratio of the engine's", "at most", "")
    for name, ours, theirs, target in TARGETS:
        figure = FIGURES[name][0]
        pairs = zip(measured[ours][OURS], measured[theirs][NO_PARSER], strict=True)
        measured_ratio = median(figure(one) / figure(other) for one, other in pairs)
        compared = f"{ours} to {theirs} of {NO_PARSER}"
        table.add_row(name, compared, f"{target}", f"{measured_ratio:.2f}")
    return table
