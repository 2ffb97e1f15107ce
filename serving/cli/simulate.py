"""`mistral-serve simulate`: simulates how a fleet, which need not exist, serves a load."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from serving.catalogue import CatalogueError
from serving.cli.client import fail
from serving.simulator import scenario as scenarios
from serving.simulator.report import Report
from serving.simulator.rows import rows
from serving.simulator.run import run
from serving.simulator.spec import SpecError
from serving.simulator.trace import TraceError


def simulate(
    scenario: Annotated[
        Path | None,
        typer.Argument(help="YAML file with the scenario. Default: 10 requests/s on 8 replicas."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Override a field of the scenario, such as fleet.replicas=16. Can be repeated.",
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures to this file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with plots to this file.")] = None,
) -> None:
    """Simulate how replicas of a model serve a load.

    Placement, admission and scaling are the service's own code; the engines
    are models of vLLM with the speed and memory that the catalogue has for the
    variant. No GPU, Ray or vLLM is needed.

    A scenario describes the fleet, the load, the SLO and how the fleet scales.
    All its fields are in serving/simulator/README.md.
    """
    try:
        with _progress() as progress:
            report = run(scenarios.read(scenario, overrides or ()), progress)
    except (scenarios.ScenarioError, CatalogueError, SpecError, TraceError) as error:
        raise fail(str(error)) from None
    except OSError as error:
        raise fail(f"load.trace: {error.filename}: {error.strerror or error}") from None
    _show(report)
    if json is not None:
        _write(json, report.as_json())
    if html is not None:
        from serving.simulator.page import page  # matplotlib takes a second to import

        _write(html, page(report))


@contextmanager
def _progress() -> Iterator[Callable[[float, float], None] | None]:
    """Shows a bar of the simulated time, in a terminal."""
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
        task = progress.add_task("", total=0)
        yield lambda now_s, end_s: progress.update(task, total=end_s, completed=min(now_s, end_s))


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
