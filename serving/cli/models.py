"""`mistral-serve models`: the catalogue as a table."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from serving import catalogue
from serving.catalogue import CatalogueEntry, CatalogueError, CatalogueFile
from serving.cli.client import fail
from serving.cli.console import console

_COLUMNS = {
    "variant": "left",
    "GPUs": "left",
    "context": "right",
    "weights GiB": "right",
    "KV tokens": "right",
    "contexts": "right",
    "revision": "left",
    "run by us": "left",
}


def models(
    model: Annotated[
        str | None,
        typer.Argument(help="Show the memory sums of this model or YAML file."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all facts as JSON.")] = False,
) -> None:
    """List the models that can be served, and what each variant needs."""
    files = [read(model)] if model else [catalogue.read(name) for name in catalogue.names()]
    if as_json:
        print(json.dumps([facts(entry) for file in files for entry in entries_of(file)], indent=2))
        return
    out = console()
    for file in files:
        entries = entries_of(file)
        out.print(f"{file.id}  (also {', '.join(file.aliases) or 'under no other name'})")
        out.print(table(entries))
        for entry in entries if model else []:
            out.print(f"\n{entry.variant or entry.id}", *sum_lines(entry), sep="\n")
        out.print()
    if model is None:
        out.print(
            "The first variant of a model is its default. A config's `model`, and MODEL below, is "
            "its id, one of its other\nnames, or the last part of the id in lower case. KV tokens "
            "are estimates, good to about 10 %, and contexts\nthe requests of full length that "
            "they hold; `mistral-serve models MODEL` shows the sums."
        )


def entries_of(file: CatalogueFile) -> list[CatalogueEntry]:
    """The catalogue entry in all its variants."""
    return [file.entry(variant) for variant in file.variants or [None]]


def read(model: str) -> CatalogueFile:
    try:
        return catalogue.find(model)
    except CatalogueError as error:
        raise fail(str(error)) from None


def table(entries: list[CatalogueEntry]) -> Table:
    result = Table(box=None, pad_edge=False, collapse_padding=True)
    for name, justify in _COLUMNS.items():
        result.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for entry in entries:
        memory = entry.memory()
        result.add_row(
            entry.variant or "-",
            entry.hardware,
            f"{entry.context_tokens:,}",
            f"{memory.weights_gib:.1f}" if memory else "-",
            f"{memory.kv_tokens:,}" if memory else "-",
            f"{memory.full_contexts:.1f}" if memory else "-",
            revision(entry),
            "verified" if entry.verified else "unverified",
        )
    return result


def revision(entry: CatalogueEntry) -> str:
    if entry.kind == "openai" or entry.embedded:
        return "-"
    return entry.revision[:7] if entry.revision else "unpinned"


def sum_lines(entry: CatalogueEntry) -> list[str]:
    """The origin of the weights, and the memory calculation."""
    memory = entry.memory()
    lines = memory.lines() if memory else ["no memory sum: it has no network or no gpu"]
    speed = entry.first_speed()
    if speed is not None:
        known = "measured" if entry.speed_is_measured() else "by formula, not measured"
        lines = [
            *lines,
            f"  {speed.prefill_tokens_per_s:,.0f} prompt tokens/s, {speed.step_ms:.1f} ms a decode "
            f"step ({known})",
        ]
    return [f"{entry.weights or entry.base_url}, revision {entry.revision or 'unpinned'}", *lines]


def facts(entry: CatalogueEntry) -> dict[str, Any]:
    memory, speed = entry.memory(), entry.first_speed()
    return entry.model_dump(mode="json") | {
        "gpus": memory.gpus if memory else None,
        "weights_gib": round(memory.weights_gib, 2) if memory else None,
        "kv_tokens": memory.kv_tokens if memory else None,
        "full_contexts": round(memory.full_contexts, 2) if memory else None,
        "fits": memory.fits if memory else None,
        "memory_sum": memory.lines() if memory else None,
        "first_speed": asdict(speed) if speed else None,
        "speed_is_measured": entry.speed_is_measured(),
    }
