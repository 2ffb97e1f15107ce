"""`mistral-serve simulate`: a load on a fleet that need not be there."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from serving.catalogue.entry import CatalogueError
from serving.cli.client import fail
from serving.cli.models import chosen_entry, gpus
from serving.placement.policies import PolicyName
from serving.scaling import ScalingConfig, ScalingPolicy
from serving.simulator.engine import EngineSpec
from serving.simulator.load import Kind, Load, generated, of_trace
from serving.simulator.page import page
from serving.simulator.report import Report
from serving.simulator.result import Slo
from serving.simulator.rows import rows
from serving.simulator.run import run
from serving.simulator.shape import Form, Shape
from serving.simulator.spec import SpecError, engine_spec
from serving.simulator.trace import TraceError

DEFAULT_MODEL = "mistral-small-3.2-24b-instruct-2506"


def simulate(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(help="Of the catalogue, or a YAML file of yours.")
    ] = DEFAULT_MODEL,
    variant: Annotated[str | None, typer.Option(help="Default: the model's first.")] = None,
    gpu: Annotated[
        str | None, typer.Option(help="Type of the GPUs. Default: the variant's, as the next.")
    ] = None,
    tensor_parallel_size: Annotated[
        int | None, typer.Option(min=1, help="GPUs of a replica.")
    ] = None,
    context_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longer requests are refused.")
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(help="A recorded load: Mooncake's JSON lines or Azure's CSV, also gzipped."),
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0.001, help="Play the trace so many times faster.")
    ] = 1.0,
    repeat: Annotated[
        int, typer.Option(min=1, help="Play the trace so often, with new prompts each time.")
    ] = 1,
    load: Annotated[Kind, typer.Option(help="Without a trace: what is asked.")] = Kind.shared,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Requests a second (sessions: begun ones). Default: the trace's, or 10. Of a "
            "trace each request comes more often, or some are left out; the time stays.",
        ),
    ] = None,
    form: Annotated[Form, typer.Option(help="How the rate changes in time.")] = Form.steady,
    peak: Annotated[
        float | None, typer.Option(min=0, help="The rate that step, spike and day go up to.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Of a load without a trace.")] = 600.0,
    requests: Annotated[
        int | None, typer.Option(min=1, help="Stop sending after so many (or sessions).")
    ] = None,
    prefixes: Annotated[
        int, typer.Option(min=1, help="shared: contexts; sessions: system prompts.")
    ] = 150,
    prefix_tokens: Annotated[int, typer.Option(min=0, help="Of each of these.")] = 6000,
    users: Annotated[int, typer.Option(min=1, help="shared: questions to each context.")] = 5,
    question_tokens: Annotated[int, typer.Option(min=1, help="Of a user's text.")] = 1200,
    output_tokens: Annotated[int, typer.Option(min=1, help="Of an answer.")] = 300,
    turns: Annotated[int, typer.Option(min=1, help="sessions: of each, on average.")] = 6,
    replicas: Annotated[
        int, typer.Option(min=0, help="At first; at least, if they are scaled.")
    ] = 8,
    max_replicas: Annotated[
        int | None, typer.Option(min=1, help="Scale up to so many, by the service's own policy.")
    ] = None,
    startup_s: Annotated[float, typer.Option(min=0, help="Until a new replica serves.")] = 120.0,
    prefill_utilization: Annotated[
        float, typer.Option(min=0.01, max=1, help="As in a model's autoscaling.")
    ] = 0.6,
    routers: Annotated[int, typer.Option(min=1)] = 1,
    lag_ms: Annotated[
        float, typer.Option(min=0, help="Until a router knows what another did.")
    ] = 10.0,
    placement: Annotated[
        PolicyName, typer.Option(help="Which replica a request goes to.")
    ] = "least_cost",
    max_wait_s: Annotated[float, typer.Option(min=0.001, help="For room on a replica.")] = 30.0,
    ttft_s: Annotated[float, typer.Option(help="Good: the first token within so long.")] = 2.0,
    itl_ms: Annotated[
        float, typer.Option(help="Good: an answer's mean time between tokens at most.")
    ] = 50.0,
    seed: Annotated[int, typer.Option(help="The same gives the same report.")] = 0,
    json: Annotated[Path | None, typer.Option(help="Write every figure there.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with plots there.")] = None,
) -> None:
    """Simulate a load on replicas of a model, and say how it is served.

    Placement, admission and scaling are the service's own code; the engines
    are models of vLLM with the speed and memory that the catalogue has for the
    variant. No GPU, Ray or vLLM is needed.

    A load is a trace, or made up: `shared`, in which contexts are asked about
    again and again, or `sessions`, in which each answer is a part of the next
    prompt. Without --max-replicas there are as many replicas all the time.
    """
    if max_replicas is not None and max_replicas < max(replicas, 1):
        raise fail("--max-replicas is below --replicas")
    if replicas == 0 and max_replicas is None:
        raise fail("--replicas 0 needs --max-replicas")
    if peak is None and form is not Form.steady:
        raise fail(f"--form {form} needs --peak")
    try:
        entry = chosen_entry(model, variant).on(
            gpu=gpu, tensor_parallel_size=tensor_parallel_size, context_tokens=context_tokens
        )
        spec = engine_spec(entry)
    except (CatalogueError, SpecError) as error:
        raise fail(str(error)) from None
    try:
        if trace is not None:
            _refuse(context, _GENERATED, "is for loads without --trace")
            chosen = of_trace(trace, speed, repeat, rate, requests, seed)
        else:
            _refuse(context, _OF_TRACES, "is for a --trace")
            low = 10.0 if rate is None else rate
            shape = Shape(form, low, low if peak is None else peak, seconds)
            if shape.most_per_s == 0:
                raise fail("--rate 0: no request comes")
            chosen = generated(
                load,
                shape,
                requests,
                prefixes=prefixes,
                prefix_tokens=prefix_tokens,
                users=users,
                question_tokens=question_tokens,
                output_tokens=output_tokens,
                turns=turns,
                seed=seed,
            )
    except TraceError as error:
        raise fail(str(error)) from None
    except OSError as error:
        raise fail(f"{error.filename or trace}: {error.strerror or error}") from None

    scaler = None
    if max_replicas is not None:
        scaler = ScalingPolicy(ScalingConfig(replicas, max_replicas, prefill_utilization))
    settings = {
        "model": f"{entry.id}, {entry.variant or 'only variant'}",
        "replica": f"{gpus(entry)}, {_speed(spec)}",
        "load": chosen.name,
        "replicas": str(replicas)
        if max_replicas is None
        else f"{replicas} to {max_replicas}, up after {startup_s:g} s, "
        f"{prefill_utilization:.0%} of their time for prefill",
        "routers": str(routers) if routers == 1 else f"{routers}, in step after {lag_ms:g} ms",
        "placement": placement,
        "longest wait": f"{max_wait_s:g} s",
        "seed": str(seed),
    }
    with _progress(chosen) as progress:
        report = run(
            entry,
            chosen,
            replicas,
            Slo(ttft_s, itl_ms / 1000),
            scaler=scaler,
            startup_s=startup_s,
            routers=routers,
            lag_s=lag_ms / 1000,
            placement=placement,
            max_wait_s=max_wait_s,
            seed=seed,
            settings=settings,
            progress=progress,
        )
    _show(report)
    for path, text in ((json, report.as_json), (html, partial(page, report))):
        if path is not None:
            _write(path, text())


def _speed(spec: EngineSpec) -> str:
    step_time = spec.step_time
    return (
        f"{step_time.prefill_tokens_per_s:,.0f} prompt tokens/s, "
        f"{1000 * (step_time.weights_s + step_time.overhead_s):.1f} ms a step, "
        f"{spec.kv_cache_tokens:,} tokens of KV cache"
    )


_GENERATED = (
    *("load", "form", "peak", "seconds", "prefixes", "prefix_tokens", "users"),
    *("question_tokens", "output_tokens", "turns"),
)
_OF_TRACES = ("speed", "repeat")


def _refuse(context: typer.Context, options: Iterable[str], why: str) -> None:
    """If one of them was given."""
    for name in options:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise fail(f"--{name.replace('_', '-')} {why}")


@contextmanager
def _progress(load: Load) -> Iterator[Callable[[float], None] | None]:
    """A bar of the simulated time, in a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield None
        return
    columns = (
        TextColumn("simulated"),
        BarColumn(40),
        TaskProgressColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=load.seconds)
        yield lambda now_s: progress.update(task, completed=min(now_s, load.seconds))


def _show(report: Report) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in report.settings.items():
        table.add_row(name, value, style="dim")
    table.add_row("", "")
    for name, value in rows(report):
        table.add_row(name, value)
    width = None if sys.stdout.isatty() else 160
    Console(width=width, highlight=False).print(table)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise fail(f"{path}: {error.strerror or error}") from None
