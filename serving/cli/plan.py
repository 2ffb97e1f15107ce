"""`mistral-serve plan`: what a model needs to serve a load."""

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from serving import planner
from serving.catalogue import CatalogueError
from serving.cli.client import BAD_OPTION, fail
from serving.cli.models import read
from serving.planner import Impossible, Plan, Traffic, made_up, recorded
from serving.planner.check import Check
from serving.planner.objective import Objective
from serving.planner.option import Option
from serving.simulator.scenario import DEFAULT_MODEL
from serving.simulator.trace import TraceError

_WIDTH = 140
"""Width of the output if it is not a terminal."""


def _gpu(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def plan(
    model: Annotated[
        str,
        typer.Argument(help="Name in the catalogue, or path of a YAML file of the same form."),
    ] = DEFAULT_MODEL,
    gpu: Annotated[
        str,
        typer.Option(
            metavar="TYPE|GIB",
            help="Type of the GPUs, or the usable memory of one in GiB; for that the model's file "
            "must have a `speed`.",
        ),
    ] = "H100-80GB",
    variant: Annotated[
        str | None, typer.Option(help="Consider only this variant. Default: all.")
    ] = None,
    context_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Required context length. Default: the model's, or what fits."),
    ] = None,
    gpus_per_node: Annotated[int, typer.Option(min=1, help="Limits the GPUs of a replica.")] = 8,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, help="Requests per second. Default: the trace's, or 10."),
    ] = None,
    peak: Annotated[
        float | None, typer.Option(min=0.001, help="Requests per second at the peak of a day.")
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(help="Recorded load: Mooncake's JSON lines or Azure's CSV, plain or gzipped."),
    ] = None,
    prompt_tokens: Annotated[int, typer.Option(min=2, help="Mean length of a prompt.")] = 2000,
    output_tokens: Annotated[int, typer.Option(min=1, help="Mean length of an answer.")] = 300,
    prefix_share: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of a prompt that other prompts have in common."),
    ] = 0.5,
    prefixes: Annotated[int, typer.Option(min=1, help="Number of different shared prefixes.")] = 8,
    ttft_s: Annotated[float, typer.Option(min=0.001, help="SLO: time to first token.")] = 2.0,
    itl_ms: Annotated[
        float, typer.Option(min=0.1, help="SLO: mean time between an answer's tokens.")
    ] = 50.0,
    percentile: Annotated[
        float,
        typer.Option(min=1, max=99.9, help="Percentage of the requests that must meet the SLO."),
    ] = 99.0,
    gpu_hour_price: Annotated[
        float | None, typer.Option(min=0, help="Price of one GPU-hour, in any currency.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of the simulations. Equal seeds give equal plans.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:
    """Plan the variant, GPUs and replicas that a load needs.

    A formula makes a first guess, which the simulator then checks; the plan
    names the `mistral-serve simulate` command that shows the same. The
    candidate with the fewest GPUs at the peak is chosen. To rule out quantised
    weights, name a variant with --variant.
    """
    try:
        file = read(model)
        if trace is not None:
            traffic = recorded(trace, rate, peak)
        else:
            base = 10.0 if rate is None else rate
            traffic = made_up(
                base, peak or base, prompt_tokens, output_tokens, prefix_share, prefixes
            )
        if traffic.peak_per_s < traffic.base_per_s:
            raise fail(f"--peak is below the rate, {traffic.base_per_s:g}/s", BAD_OPTION)
        with _status() as say:
            made = planner.plan(
                model,
                file,
                _gpu(gpu),
                traffic,
                Objective(ttft_s, itl_ms / 1000, percentile / 100),
                variant=variant,
                context_tokens=context_tokens,
                gpus_per_node=gpus_per_node,
                gpu_hour_price=gpu_hour_price,
                seed=seed,
                say=say,
            )
    except KeyError:
        raise fail(f"{model} has no variant '{variant}'; see `mistral-serve models`") from None
    except Impossible as error:
        raise fail(f"no candidate meets the objective:\n{error}") from None
    except (CatalogueError, TraceError) as error:
        raise fail(str(error)) from None
    except OSError as error:
        raise fail(f"{error.filename or trace}: {error.strerror or error}") from None
    if as_json:
        print(json.dumps(made.as_dict(), indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
    console.print(f"{file.id}\n{_asked(traffic)}")
    console.print(
        f"{percentile:g} % of the requests: first token within {ttft_s:g} s, {itl_ms:g} ms between "
        "tokens\n"
    )
    console.print(_options(made))
    console.print(_rows(made, traffic, gpu_hour_price))
    console.print("\nHow this is known", *(f"- {line}" for line in made.sources), sep="\n")
    print(f"\n{made.config}", end="")


def _asked(traffic: Traffic) -> str:
    asked = f"{traffic.base_per_s:g} requests/s"
    if traffic.peak_per_s != traffic.base_per_s:
        asked += f", {traffic.peak_per_s:g} at the peak"
    return (
        f"{asked}; {traffic.prompt_tokens:,.0f} tokens in, of which up to "
        f"{traffic.cached_tokens:,.0f} can be cached, {traffic.output_tokens:,.0f} out"
    )


def _options(made: Plan) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("variant")
    for column in ("GPUs", "context", "KV tokens", "replicas: formula", "simulated"):
        table.add_column(column, justify="right")
    table.add_column("")
    for option in made.options:
        table.add_row(
            option.entry.variant or "-",
            option.entry.hardware,
            f"{option.entry.context_tokens:,}",
            f"{option.kv_cache_tokens:,}",
            *("-" if n is None else str(n) for n in (option.replicas, option.checked)),
            _verdict(option, made),
            style=None if option is made.chosen else "dim",
        )
    return table


def _verdict(option: Option, made: Plan) -> str:
    if option is made.chosen:
        return f"taken: {option.peak_gpus} GPUs"
    return option.limit or f"{option.peak_gpus} GPUs"


def _rows(made: Plan, traffic: Traffic, gpu_hour_price: float | None) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    chosen, of_day = made.chosen, made.day
    entry = chosen.entry
    mean_tokens = traffic.prompt_tokens + traffic.output_tokens
    contexts = chosen.kv_cache_tokens / entry.context_tokens
    table.add_row("", "")
    table.add_row("a replica", chosen.name)
    table.add_row(
        "holds",
        f"{chosen.kv_cache_tokens:,} tokens: {contexts:.1f} requests of {entry.context_tokens:,}, "
        f"{made.concurrency:.0f} of {mean_tokens:,.0f}",
    )
    checks = [("replicas", made.peak)]
    if made.base is not made.peak:
        checks = [("replicas, base", made.base), ("replicas, peak", made.peak)]
    for name, check in checks:
        table.add_row(name, _shown(check))
    table.add_row("bound by", _bound(made))
    table.add_row(
        "a day",
        f"{of_day.gpu_hours:,.1f} GPU-hours, {of_day.requests:,.0f} requests, "
        f"{of_day.prompt_tokens / 1e6:,.0f} million tokens in, "
        f"{of_day.output_tokens / 1e6:,.0f} million out",
    )
    if of_day.cost is not None:
        table.add_row(
            "cost",
            f"{of_day.cost:,.2f} a day at {gpu_hour_price:g} a GPU-hour: "
            f"{of_day.cost_per_million_output_tokens:,.3f} per million tokens out, "
            f"{of_day.cost_per_million_tokens:,.3f} per million in and out",
        )
    settings = shlex.join(
        part for override in made.peak.scenario.overrides() for part in ("--set", override)
    )
    table.add_row("the same", f"mistral-serve simulate {settings}")
    return table


def _shown(check: Check) -> str:
    figures = check.figures
    ttft_s, itl_s = figures.ttft_p99_s or 0.0, figures.itl_p99_s or 0.0
    return (
        f"{check.replicas} at {check.per_s:g}/s: {figures.good_share:.2%} good, p99 "
        f"{ttft_s:.2f} s to the first token, {1000 * itl_s:.1f} ms between tokens; "
        f"{figures.hit_rate:.0%} of the prompts cached"
    )


def _bound(made: Plan) -> str:
    at = made.peak.at
    if at is None:
        return "more than the formula thinks possible"
    alone_ms = 1000 * made.spec.step_time.decode_s(1, 1, 0)
    return (
        f"{at.bound}: prefill takes {made.peak.prefill:.0%} of a replica's time, a decode step "
        f"{1000 * at.step_s:.1f} ms ({alone_ms:.1f} with one request), "
        f"{at.running:.0f} requests hold {at.kv_cache:.0%} of the KV cache"
    )


@contextmanager
def _status() -> Iterator[Callable[[str], None]]:
    """Shows in a terminal which simulation runs."""
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda _: None
        return
    with console.status("") as status:
        yield status.update
