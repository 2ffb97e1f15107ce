"""`mistral-serve top`: the current models, replicas, load and latency in a terminal."""

import time
from typing import Annotated

import httpx
import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from serving.cli.client import DEFAULT_URL, AdminKeyEnv, Url
from serving.cli.service_status import asking, service_status
from serving.router.telemetry.status import ModelStatus, Objectives, Quantiles, ServiceStatus

_NOTHING = "-"
_NO_ANSWER = Text("no router answers; these figures are old:", style="bold red")


def top(
    url: Url = DEFAULT_URL,
    admin_key_env: AdminKeyEnv = None,
    interval_s: Annotated[float, typer.Option("--interval", min=0.1, help="In seconds.")] = 2,
) -> None:
    """Show models, replicas, load, queue, hit rate and latency live until Ctrl-C; once, if the
    output is not a terminal."""
    console = Console(highlight=False)
    with asking(url, admin_key_env) as client:
        if not console.is_terminal or console.is_dumb_terminal:
            console.print(screen(url, service_status(client)))
            return
        try:
            latest = screen(url, service_status(client))
            with Live(latest, console=console, screen=True, auto_refresh=False) as live:
                while True:
                    time.sleep(interval_s)
                    try:
                        latest = screen(url, service_status(client))
                        live.update(latest, refresh=True)
                    except httpx.HTTPError:
                        live.update(Group(_NO_ANSWER, latest), refresh=True)
        except KeyboardInterrupt:
            return


def screen(url: str, service: ServiceStatus) -> RenderableType:
    versions = ", ".join(f"{name} {number}" for name, number in service.versions.items())
    parts: list[RenderableType] = [Text(f"{url}  {versions}", style="dim", no_wrap=True)]
    if service.routers > 1:
        parts.append(
            Text(
                f"router {service.router}, one of {service.routers}: queue, hit rate and latency "
                "are its own",
                style="dim",
            )
        )
    for model_id, model in service.models.items():
        parts += [Text(), *model_parts(model_id, model, service.objectives)]
    return Group(*parts)


def model_parts(model_id: str, model: ModelStatus, objectives: Objectives) -> list[RenderableType]:
    up = sum(not replica.ejected for replica in model.replicas)
    state = "green" if up == len(model.replicas) else "yellow"
    head = Text.assemble(
        (model_id, "bold"),
        "  ",
        (f"{up} of {len(model.replicas)} up", state) if up else ("no replica is up", "red"),
    )
    if not model.replicas:
        head.append(f"; {model.start_error or f'one is expected in {model.startup_left_s} s'}")
    return [head, figures(model, objectives), *([replicas(model)] if model.replicas else [])]


def figures(model: ModelStatus, objectives: Objectives) -> Table:
    recent = model.recent
    seconds = max(recent.seconds, 1.0)
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    running = sum(replica.requests_in_flight for replica in model.replicas)
    table.add_row(
        *pair("running", f"{running}"),
        *pair("queue", f"{model.waiting}", "yellow" if model.waiting else ""),
        *pair("TTFT", *quantiles(recent.ttft, objectives.ttft_s)),
    )
    hits = percent(recent.hit_rate)
    if recent.expected_hit_rate is not None:
        hits += f" ({percent(recent.expected_hit_rate)} expected)"
    table.add_row(
        *pair("requests/s", f"{recent.requests / seconds:.1f}"),
        *pair("hit rate", hits),
        *pair("ITL", *quantiles(recent.itl, objectives.itl_s)),
    )
    bad = "red" if recent.failed else "yellow" if recent.refused else ""
    table.add_row(
        *pair("tokens/s", f"{recent.output_tokens / seconds:,.0f}"),
        *pair("refused/failed", f"{recent.refused} / {recent.failed}", bad),
        *pair("wait", *quantiles(recent.queue)),
    )
    return table


def pair(name: str, value: str, style: str = "") -> tuple[Text, Text]:
    return Text(name, style="dim", no_wrap=True), Text(value, style=style, no_wrap=True)


def replicas(model: ModelStatus) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("  replica", "load", ""):
        table.add_column(name, no_wrap=True)
    table.add_column("running", justify="right")
    table.add_column("KV cache tokens", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for replica in model.replicas:
        tokens = f"{replica.tokens_in_flight:,}"
        if replica.kv_cache_tokens is not None:
            tokens += f" of {replica.kv_cache_tokens:,}"
        table.add_row(
            Text(f"  {replica.replica}"),
            bar(replica.load),
            percent(replica.load),
            f"{replica.requests_in_flight}",
            tokens,
            Text("ejected" if replica.ejected else "", style="red"),
        )
    return table


def bar(load: float | None) -> ProgressBar:
    load = min(load or 0.0, 1.0)
    style = "red" if load > 0.95 else "yellow" if load > 0.75 else "green"
    return ProgressBar(total=1.0, completed=load, width=12, complete_style=style)


def quantiles(times: Quantiles, objective_s: float = float("inf")) -> tuple[str, str]:
    """Formats p50 and p99, and returns their style."""
    if times.p50_s is None or times.p99_s is None:
        return _NOTHING, ""
    text = f"{duration(times.p50_s)}, p99 {duration(times.p99_s)}"
    return text, "red" if times.p50_s > objective_s else ""


def duration(seconds: float) -> str:
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def percent(part: float | None) -> str:
    return _NOTHING if part is None else f"{part:.0%}"
