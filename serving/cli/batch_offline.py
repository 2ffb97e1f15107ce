"""How `batch --model` runs: the model in this process, its engine's output in a file beside OUT."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import httpx
from pydantic import ValidationError

from serving.batch.runner import ServiceError
from serving.cli import preflight
from serving.cli.output_file import output_to
from serving.cli.up import Progress, StartError, interrupt
from serving.config import AppConfig, ConfigError, ModelConfig
from serving.engine import start_log
from serving.offline import URL, EngineDiedError, OfflineModel
from serving.section import explain, set_field

_PER_SEQUENCE = 2
"""Requests in flight for each sequence of the engine's batch: the next one waits in the engine when
one ends, its prompt rendered and its images read."""

_OF_A_SERVICE = frozenset({"replicas", "autoscaling", "cpus", "host", "drain_timeout_s"})

Ask = Callable[[httpx.AsyncClient, int, TextIO], Awaitable[str | None]]
"""Sends the batch with at most that many requests in flight, and shows its progress in the file.
Returns the reason if it stopped before the end."""


def model_config(name: str, settings: Sequence[str]) -> ModelConfig:
    """The model of that name with `FIELD=VALUE` settings. Raises ConfigError."""
    document: dict[str, Any] = {"model": name}
    for setting in settings:
        try:
            set_field(setting, document)
        except ValueError as error:
            raise ConfigError(f"--set: {error}, such as tensor_parallel_size=8") from None
    try:
        config = ModelConfig.model_validate(document)
    except ValidationError as error:
        field, message = explain(error, ModelConfig)[0]
        option = "--model" if field == "model" else f"--set {field}"
        raise ConfigError(f"{option}: {message}") from None
    for field in sorted(config.model_fields_set & _OF_A_SERVICE):
        raise ConfigError(f"--set {field}: is for a service, and --model runs one engine here")
    if config.entry.kind == "openai":
        raise ConfigError(
            f"--model: {config.entry.id} runs on the server at its base_url: serve it with --config"
        )
    return config


def log_path(out: Path) -> Path:
    """The file for the engine's output of a run into `out`: out.engine.log for out.jsonl."""
    return out.with_name(f"{out.stem}.engine.log")


def answer_here(config: ModelConfig, out: Path, most: int, ask: Ask) -> str | None:
    """Runs the model while `ask` sends it a batch, and returns what `ask` does. `most` limits the
    requests in flight further than the engine's batch does. Raises ConfigError, PreflightError,
    StartError and ServiceError."""
    say = Progress()
    model = OfflineModel(config)
    preflight.check_engines(AppConfig(models=(config,)))
    log = log_path(out)
    say(f"starting {config.entry.id} in this process; log: {log}")
    with output_to(log) as terminal, asyncio.Runner() as loop:
        heeded = signal.signal(signal.SIGINT, interrupt)  # a start would delay asyncio's own
        try:
            loop.run(model.start())
        except start_log.StartError as error:
            raise StartError(str(error)) from None
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise StartError(f"{config.entry.id} did not start: {reason}; log: {log}") from None
        finally:
            signal.signal(signal.SIGINT, heeded)
        bound = _PER_SEQUENCE * model.max_num_seqs
        client = httpx.AsyncClient(transport=model, base_url=URL, timeout=None)
        try:
            return loop.run(_asked(client, min(most, bound), ask, terminal))
        except EngineDiedError as error:
            reason = start_log.root_cause(start_log.own_log()) or str(error)
            raise ServiceError(
                f"the engine died: {reason}; log: {log}\nThe same command continues from here."
            ) from None


async def _asked(
    client: httpx.AsyncClient, concurrency: int, ask: Ask, terminal: TextIO
) -> str | None:
    async with client:
        return await ask(client, concurrency, terminal)
