"""`mistral-serve usage`: what each tenant, API key and model has used."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Literal

import httpx
import msgspec
import typer
from rich.table import Table
from rich.text import Text

from serving.cli.client import BAD_OPTION, DEFAULT_URL, AdminKeyEnv, Url, fail
from serving.cli.console import console
from serving.cli.service_status import asking
from serving.ledger.folder import LedgerFolder
from serving.ledger.report import COLUMNS, Column, Report, Row, to_csv

_COUNTS = (
    "requests",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "repeated_input_tokens",
    "wasted_output_tokens",
)
_decode = msgspec.json.Decoder(Report).decode


def _columns(text: str) -> str:
    named = text.split(",")
    if not set(named) <= set(COLUMNS):
        raise fail(f"--by must be a list of {', '.join(COLUMNS)}, not {text!r}", BAD_OPTION)
    return text


def usage(
    url: Url = DEFAULT_URL,
    admin_key_env: AdminKeyEnv = None,
    first: Annotated[
        datetime | None,
        typer.Option(
            "--from",
            formats=["%Y-%m-%d"],
            metavar="YYYY-MM-DD",
            help="First day (UTC); by default the first of the month.",
        ),
    ] = None,
    last: Annotated[
        datetime | None,
        typer.Option(
            "--to",
            formats=["%Y-%m-%d"],
            metavar="YYYY-MM-DD",
            help="Last day (UTC); by default today.",
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            metavar="COLUMNS",
            help="What it is summed by: day, tenant, key, model.",
            callback=_columns,
        ),
    ] = "tenant,key,model",
    format: Annotated[
        Literal["table", "csv", "json"], typer.Option(help="Of the output.")
    ] = "table",
    folder: Annotated[
        Path | None,
        typer.Option(help="Read this folder of the ledger in place of asking a service."),
    ] = None,
) -> None:
    """Show what tenants, API keys and models have used: tokens, requests, estimated GPU time."""
    columns: tuple[Column, ...] = tuple(column for column in COLUMNS if column in by.split(","))
    today = datetime.now(UTC).date()
    end = today if last is None else last.date()
    begin = end.replace(day=1) if first is None else first.date()
    if begin > end:
        raise fail(f"--from {begin} is after --to {end}", BAD_OPTION)
    if folder is None:
        report = _asked(url, admin_key_env, begin, end, columns)
    else:
        report = _read(folder, begin, end, columns)
    if format == "csv":
        typer.echo(to_csv(report.rows, columns), nl=False)
    elif format == "json":
        typer.echo(msgspec.json.format(msgspec.json.encode(report)))
    else:
        console().print(table(report, columns))
    for note in notes(report):
        typer.echo(note, err=True)


def _asked(
    url: str, admin_key_env: str | None, begin: date, end: date, columns: tuple[Column, ...]
) -> Report:
    query = {"from": begin.isoformat(), "to": end.isoformat(), "by": ",".join(columns)}
    with asking(url, admin_key_env) as client:
        response = client.get("/-/usage", params=query, timeout=60)
        if response.status_code == 404:
            raise fail(f"the service at {url} keeps no usage: router.ledger.keep_days is 0")
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            raise fail(response.json()["error"]["message"])
        return _decode(response.raise_for_status().content)


def _read(folder: Path, begin: date, end: date, columns: tuple[Column, ...]) -> Report:
    if not folder.is_dir():
        raise fail(f"--folder: there is no folder {folder}", BAD_OPTION)
    try:
        return LedgerFolder(folder).report(begin, end, datetime.now(UTC), columns)
    except OSError as error:
        raise fail(f"{error.filename}: {error.strerror}") from None


def table(report: Report, columns: tuple[Column, ...]) -> Table:
    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for name in (*_COUNTS, "GPU-hours"):
        shown.add_column(name.replace("_", " "), justify="right", overflow="fold")
    for row in report.rows:
        texts = [Text(getattr(row, column) or "-") for column in columns]
        shown.add_row(*texts, *_figures(row))
    if len(report.rows) > 1:
        total = Row()
        for row in report.rows:
            total.merge(row)
        shown.add_row(Text("total"), *[""] * (len(columns) - 1), *_figures(total), style="bold")
    return shown


def _figures(row: Row) -> list[str]:
    return [*(f"{getattr(row, name):,}" for name in _COUNTS), f"{row.gpu_s / 3600:,.2f}"]


def notes(report: Report) -> list[str]:
    """What a reader of the sums must know, a line each."""
    lines = []
    if report.running:
        lines.append(f"{report.running} requests are in flight; they count when they end.")
    for gap in report.gaps:
        lines.append(
            f"Router {gap.router} was killed. What {gap.requests} requests in flight had used by "
            f"{gap.at:%Y-%m-%d %H:%M:%S} UTC is counted; what was used in its last second is not."
        )
    if estimated := sum(row.estimated for row in report.rows):
        lines.append(f"{estimated} requests have a count that no engine reported, but the router.")
    if report.damaged_lines:
        lines.append(f"{report.damaged_lines} lines of the ledger cannot be read and do not count.")
    return lines
