"""What the front-end benchmark measured, as tables."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import Console

from tests.bench.relay_report import machine, new_table

CARD, NO_PARSER, OURS = "vLLM", "no parser", "engine"
CARD_TTFT_TARGET = 0.2
NO_PARSER_TTFT_TARGET = 1.4
TOKEN_CPU_TARGET = 1.0


@dataclass(frozen=True, slots=True)
class Round:
    """The figures of one kind of request on one server. `ttft_s` is of one-token requests, one at a
    time, and `busy_ttft_s` 16 at a time; `cpu_s` is of a one-token request and `token_cpu_s` of a
    streamed token, both in the API server's process alone."""

    ttft_s: float
    busy_ttft_s: float
    cpu_s: float
    token_cpu_s: float


Measured = dict[str, dict[str, list[Round]]]
"""The figures by kind of request and server, one for each round, in order."""

FIGURES: dict[str, tuple[Callable[[Round], float], float, str]] = {
    "TTFT ms": (lambda r: r.ttft_s, 1e3, ".1f"),
    "TTFT ms, 16 at once": (lambda r: r.busy_ttft_s, 1e3, ".0f"),
    "CPU ms a request": (lambda r: r.cpu_s, 1e3, ".1f"),
    "CPU µs a streamed token": (lambda r: r.token_cpu_s, 1e6, ".0f"),
}


def ratio(runs: Mapping[str, list[Round]], to: str, figure: Callable[[Round], float]) -> float:
    """The engine's figure over that of another server: the median of the rounds' ratios."""
    pairs = zip(runs[OURS], runs[to], strict=True)
    return median(figure(ours) / figure(other) for ours, other in pairs)


def show(console: Console, measured: Measured, first_s: Mapping[str, float]) -> None:
    for name, fact in machine().items():
        console.print(f"{name}: {fact}", highlight=False, markup=False)
    rounds = len(next(iter(measured.values()))[OURS])
    table = new_table(
        f"Front end, medians over {rounds} rounds",
        "",
        "request",
        CARD,
        NO_PARSER,
        OURS,
        f"engine /\n{CARD}",
        f"engine /\n{NO_PARSER}",
    )
    for name, (figure, scale, form) in FIGURES.items():
        for kind, runs in measured.items():
            table.add_row(
                name,
                kind,
                *(
                    f"{scale * median(map(figure, runs[s])):{form}}"
                    for s in (CARD, NO_PARSER, OURS)
                ),
                *(f"{ratio(runs, to, figure):.2f}" for to in (CARD, NO_PARSER)),
                end_section=kind == list(measured)[-1],
            )
    table.add_row("First request, s", "plain", *(f"{first_s[s]:.1f}" for s in first_s))
    console.print(table)
    console.print(
        f"{CARD}: as the model card starts it. {NO_PARSER}: without its tool parser; its requests"
        " with tools have tool_choice none. TTFT: of requests for one token.\nCPU: of the API"
        " server's process, without the engine's. First request: of 220 tokens, after the start.",
        highlight=False,
    )
    console.print(targets_table(measured))


def targets_table(measured: Measured) -> Any:
    table = new_table("Targets and measured", "ratio of the engine's", "at most", *measured)
    for name, to, target in (
        ("TTFT ms", CARD, CARD_TTFT_TARGET),
        ("TTFT ms", NO_PARSER, NO_PARSER_TTFT_TARGET),
        ("CPU µs a streamed token", CARD, TOKEN_CPU_TARGET),
    ):
        ratios = [ratio(runs, to, FIGURES[name][0]) for runs in measured.values()]
        table.add_row(f"{name} to {to}", f"{target}", *(f"{value:.2f}" for value in ratios))
    return table
