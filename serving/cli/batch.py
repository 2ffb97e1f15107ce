"""`mistral-serve batch`: answers a file of requests into a file."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from serving.batch import requests
from serving.batch.lines import Request
from serving.batch.requests import InputError
from serving.batch.results import Results, ResultsError, failures_path
from serving.batch.runner import Runner, ServiceError, check_service, connect
from serving.batch.tally import Tally
from serving.cli import preflight
from serving.cli.batch_progress import show
from serving.cli.client import DEFAULT_URL, ApiKeyEnv, Url, fail, key_from
from serving.cli.up import Progress, StartError, service
from serving.config import AppConfig, ConfigError, ModelConfig, load

SOME_FAILED = 1
NOT_RUN = 2
INTERRUPTED = 130


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
        str | None, typer.Option(help="Start this catalogue model for the run.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 64,
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

    Exits with 0 if all lines are answered, 1 if some failed, 2 if it could
    not run or stopped.
    """
    heed_signals()
    try:
        api_key = key_from(api_key_env)
        own = own_service(config, model)
        given = context.get_parameter_source("url")
        if own is not None and given is not None and given.name == "COMMANDLINE":
            raise ConfigError(
                "--url is for a running service, while --config and --model start one"
            )
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
                    concurrency = min(concurrency, len(left))
                    with running(own, url) as base_url:
                        stopped = asyncio.run(
                            ask(base_url, api_key, lines, results, tally, concurrency, tries)
                        )
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


async def ask(
    url: str,
    api_key: str | None,
    lines: Iterator[Request],
    results: Results,
    tally: Tally,
    concurrency: int,
    tries: int,
) -> str | None:
    """Sends `lines` to the service at `url`; returns the reason if the run stopped before the
    end."""
    async with connect(url, api_key, concurrency) as client:
        await check_service(client)
        runner = Runner(client, results, tally, tries=tries)
        shown = asyncio.create_task(show(tally))
        try:
            await runner.run(lines, concurrency)
        finally:
            shown.cancel()
            await asyncio.gather(shown, return_exceptions=True)
    return runner.stopped


def heed_signals() -> None:
    """Handles SIGTERM as Ctrl-C, and Ctrl-C in the background of a shell too, where it is
    ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def own_service(config_file: Path | None, model: str | None) -> AppConfig | None:
    """The service to start, on a free port of this machine; None without either option."""
    if config_file is not None and model is not None:
        raise ConfigError(
            "--config and --model exclude each other: each names the service to start"
        )
    if config_file is not None:
        config = load(config_file)
    elif model is not None:
        try:
            config = AppConfig(models=(ModelConfig(model=model, host="127.0.0.1"),))
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ConfigError(f"--model: {message}") from None
    else:
        return None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    router = config.router.model_copy(update={"host": "127.0.0.1", "port": port})
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
