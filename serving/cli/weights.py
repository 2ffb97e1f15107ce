"""`mistral-serve weights`: downloads the weights that a config's engines load."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from serving import config
from serving.adapters.archive import archive_folder, fetch_archive
from serving.adapters.files import AdapterError
from serving.adapters.source import Source
from serving.cli.client import fail
from serving.config import AppConfig, ConfigError
from serving.weights import WeightsError, fetch, is_whole, repositories
from serving.weights_claims import ClaimsError, check_claims

_LOOK_EVERY_S = 5
_REPORT_PERIOD_S = 60


def weights(
    config_file: Annotated[
        Path, typer.Argument(help="A Ray Serve config file of this application.")
    ],
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Fetch nothing: wait until another process has fetched them."),
    ] = False,
) -> None:
    """Download the weights that CONFIG_FILE's engines load into Hugging Face's cache, verify them,
    and compare them with what the catalogue says of them.

    Files already present are kept, and interrupted downloads continue.
    """
    try:
        app_config = config.load(config_file)
        if wait:
            wait_for_all(app_config)
        else:
            fetch_all(app_config)
    except (ConfigError, WeightsError, ClaimsError, AdapterError) as error:
        raise fail(str(error)) from None


def fetch_all(app_config: AppConfig) -> None:
    """Downloads and checks all weights. Raises WeightsError, ClaimsError, AdapterError."""
    for repository in repositories(app_config):
        fetch(repository, say)
    for version in archives(app_config):
        fetch_archive(version.source, version.sha256 or "", say)
    for model in app_config.models:
        if model.entry.kind == "vllm":
            check_claims(model.entry)
    say("all weights are present")


def wait_for_all(app_config: AppConfig) -> None:
    reported, reported_at_s = "", 0.0
    while lacking := missing(app_config):
        if lacking != reported or time.monotonic() - reported_at_s >= _REPORT_PERIOD_S:
            say(f"waiting for {lacking}")
            reported, reported_at_s = lacking, time.monotonic()
        time.sleep(_LOOK_EVERY_S)
    say("all weights are present")


def missing(app_config: AppConfig) -> str:
    """Returns what is missing as a readable list."""
    lacking = [str(one) for one in repositories(app_config) if not is_whole(one)]
    lacking += [
        one.source for one in archives(app_config) if not archive_folder(one.sha256 or "").is_dir()
    ]
    return ", ".join(lacking)


def archives(app_config: AppConfig) -> list[Source]:
    """Returns the adapters of the config that are archives at URLs, in all versions."""
    return [
        version
        for model in app_config.models
        for adapter in model.adapters
        for version in adapter.versions
        if version.is_archive
    ]


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)
