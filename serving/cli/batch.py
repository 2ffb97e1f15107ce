"""`mistral-serve batch`: answers a file of requests into a file."""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, TextIO

import httpx
import typer

from serving.batch import requests
from serving.batch.lines import Request
from serving.batch.requests import InputError
from serving.batch.results import Results, ResultsError, failures_path
from serving.batch.runner import Runner, ServiceError, check_service, connect
from serving.batch.tally import Tally
from serving.cli import preflight
from serving.cli.batch_offline import Ask, answer_here, model_config
from serving.cli.batch_progress import show
from serving.cli.client import DEFAULT_URL, ApiKeyEnv, Url, fail, key_from
from serving.cli.up import Progress, StartError, service
from serving.config import AppConfig, ConfigError, load

SOME_FAILED = 1
NOT_RUN = 2
INTERRUPTED = 130

_CONCURRENCY = 64


def batch(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="IN", help="Requests, one per line.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File for the answers.")],
    url: Url = DEFAULT_URL,
    api_key_env: ApiKeyEnv = None,
    config: Annotated[
        Path | None, typer.Option(help="Start the service from this Serve config for the run.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Run this model in this process: catalogue name, or YAML file."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Override a field of --model, such as tensor_parallel_size=8. Can be repeated.",
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Requests in flight. Default: 64; with --model twice the engine's max-num-seqs, "
            "which is the most.",
        ),
    ] = None,
    tries: Annotated[int, typer.Option(min=1, help="Attempts per line before it fails.")] = 10,
) -> None:
    """Answer the requests of the file IN into the file OUT, in OpenAI's batch format.

    The whole of IN is checked first. Answers are written as they arrive;
    custom_id says to which request each belongs. Lines that failed go to a
    file beside OUT: out.errors.jsonl for out.jsonl.

    After any interruption the same command continues where it stopped. Lines
    with an answer are not sent again, nor are those that the service rejected
    (4xx), unless the errors' file is removed. Lines that ran out of tries are
    sent again.

    429, 5xx and broken connections are retried after 1, 2, 4 … 60 seconds, or
    when Retry-After says: ten tries take four minutes or more. If nothing is
    answered in that time, the run stops.

    With --model there is no service: neither Ray nor a port. What its engine
    prints goes to out.engine.log. The fields that --set takes are those of a
    model in a Serve config.

    Exits with 0 if all lines are answered, 1 if some failed, 2 if it could
    not run or stopped.
    """
    heed_signals()
    try:
        api_key = key_from(api_key_env)
        given = context.get_parameter_source("url")
        named_url = given is not None and given.name == "COMMANDLINE"
        check_options(named_url, config, model, settings)
        own = None if config is None else own_service(config)
        here = None if model is None else model_config(model, settings or ())
        with source.open("rb") as file:
            check_paths(source, out)
            offsets = requests.index(file, str(source))
            with Results(out, offsets) as results:
                tally = Tally(len(offsets), len(results.answered), len(results.failed))
                left = [
                    (custom_id, offset)
                    for custom_id, offset in offsets.items()
                    if custom_id not in results.answered and custom_id not in results.failed
                ]
                stopped = None
                if left:
                    lines = (requests.read_at(file, offset, name) for name, offset in left)
                    ask = partial(send, lines, results, tally, tries)
                    if here is not None:
                        most = min(concurrency or len(left), len(left))
                        stopped = answer_here(here, out, most, ask)
                    else:
                        most = min(concurrency or _CONCURRENCY, len(left))
                        with running(own, url) as base_url:
                            stopped = asyncio.run(ask_service(base_url, api_key, most, ask))
    except KeyboardInterrupt:
        raise fail("interrupted; the same command continues from here", INTERRUPTED) from None
    except OSError as error:
        raise fail(f"{error.filename or out}: {error.strerror or error}", NOT_RUN) from None
    except (
        InputError,
        ResultsError,
        ServiceError,
        ConfigError,
        preflight.PreflightError,
        StartError,
    ) as error:
        raise fail(str(error), NOT_RUN) from None
    summarise(tally, out)
    if stopped is not None:
        raise fail(f"stopped: {stopped}\nThe same command continues from here.", NOT_RUN)
    if tally.all_failed:
        raise typer.Exit(SOME_FAILED)


async def send(
    lines: Iterator[Request],
    results: Results,
    tally: Tally,
    tries: int,
    client: httpx.AsyncClient,
    concurrency: int,
    progress: TextIO,
) -> str | None:
    """Sends `lines`, and shows the progress in that file; returns the reason if the run stopped
    before the end."""
    runner = Runner(client, results, tally, tries=tries)
    shown = asyncio.create_task(show(tally, progress))
    try:
        await runner.run(lines, concurrency)
    finally:
        shown.cancel()
        await asyncio.gather(shown, return_exceptions=True)
    return runner.stopped


async def ask_service(url: str, api_key: str | None, concurrency: int, ask: Ask) -> str | None:
    """Has `ask` send the batch to the service at `url`, and returns what it does."""
    async with connect(url, api_key, concurrency) as client:
        await check_service(client)
        return await ask(client, concurrency, sys.stderr)


def heed_signals() -> None:
    """Handles SIGTERM as Ctrl-C, and Ctrl-C in the background of a shell too, where it is
    ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def check_options(
    named_url: bool, config: Path | None, model: str | None, settings: list[str] | None
) -> None:
    """Raises ConfigError if it is not clear who answers."""
    if config is not None and model is not None:
        raise ConfigError(
            "--config and --model exclude each other: one starts a service, the other runs "
            "an engine here"
        )
    if named_url and (config is not None or model is not None):
        raise ConfigError("--url is for a running service, and not for --config or --model")
    if settings and model is None:
        raise ConfigError("--set changes the model that --model names")


def own_service(config_file: Path) -> AppConfig:
    """The service to start, on a free port of this machine."""
    config = load(config_file)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    router = config.router.model_copy(update={"host": "127.0.0.1", "port": port, "tls": None})
    return config.model_copy(update={"router": router})


def check_paths(source: Path, out: Path) -> None:
    for path in (out, failures_path(out)):
        if path.exists() and path.samefile(source):
            raise ResultsError(f"{source} is the input: name another output file")


@contextlib.contextmanager
def running(own: AppConfig | None, url: str) -> Iterator[str]:
    """Yields the service's address; a service that this command starts runs while the context is
    open."""
    if own is None:
        yield url
        return
    say = Progress()
    preflight.check(own)
    with service(own, say):
        heed_signals()  # Ray has installed a handler of its own
        say("ready")
        yield f"http://127.0.0.1:{own.router.port}"
        say("stopping the service")
    say("stopped")


def summarise(tally: Tally, out: Path) -> None:
    typer.echo(f"{out}: {tally.all_answered:,} of {tally.total:,} lines answered", err=True)
    if not tally.all_failed:
        return
    typer.echo(f"{failures_path(out)}: {tally.all_failed:,} failed", err=True)
    for failure in tally.failures:
        typer.echo(f"  {failure}", err=True)
    if tally.failed > len(tally.failures):
        typer.echo(f"  and {tally.failed - len(tally.failures):,} more", err=True)
