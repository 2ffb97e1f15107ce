"""`mistral-serve adapters canary`, `compare`, `promote` and `withdraw`: versions of adapters."""

import json
import statistics
import time
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from pydantic import ValidationError

from serving.adapters import declared
from serving.adapters.base import base_of
from serving.adapters.canary import Canary
from serving.adapters.config import AdapterConfig
from serving.cli.adapters import (
    Config,
    Folder,
    Model,
    Revision,
    Sha256,
    Source,
    adapters,
    checked_version,
    folder_or_fail,
    model_with_adapters,
)
from serving.cli.client import (
    BAD_OPTION,
    DEFAULT_URL,
    NOT_UNDERSTOOD,
    ApiKeyEnv,
    Url,
    bearer,
    fail,
    key_from,
    unreachable,
)
from serving.config import ModelConfig
from serving.section import explain

_VERSION = "x-adapter-version"
_ASK_TIMEOUT_S = 600

Name = Annotated[str, typer.Argument(help="The adapter's name.")]


@adapters.command()
def canary(
    name: Name,
    source: Source,
    config: Config,
    weight: Annotated[
        float,
        typer.Option(
            "--weight",
            help=f"Its share of the requests, from 0 to 1, beside those with `{_VERSION}: canary`.",
        ),
    ] = 0.0,
    after_requests: Annotated[
        int | None,
        typer.Option(
            "--after-requests",
            help="Promote it by itself after so many requests to it, or withdraw it if they fail "
            "or are slow.",
        ),
    ] = None,
    model: Model = None,
    revision: Revision = None,
    sha256: Sha256 = None,
    folder: Folder = None,
) -> None:
    """Try a new version of an adapter beside the one that is served. A further call with the same
    source changes its share."""
    of = model_with_adapters(config, model)
    before = _declared(name, config, of, folder)
    rule = None if after_requests is None else {"requests": after_requests}
    fields = {
        "source": source,
        "revision": revision,
        "sha256": sha256,
        "weight": weight,
        "rule": rule,
    }
    try:
        tried = Canary.model_validate(fields)
    except ValidationError as error:
        field, message = explain(error, Canary)[0]
        raise fail(f"{field}: {message}", BAD_OPTION) from None
    checked_version(tried, base_of(of.entry), before)
    declared.write(folder_or_fail(of, folder), before.model_copy(update={"canary": tried}))
    typer.echo(f"{name} has a canary with {weight:.0%} of its requests", err=True)


@adapters.command()
def promote(name: Name, config: Config, model: Model = None, folder: Folder = None) -> None:
    """Have the canary of an adapter take the place of the version that is served."""
    of = model_with_adapters(config, model)
    before = _with_canary(name, config, of, folder)
    declared.write(folder_or_fail(of, folder), before.promoted())
    typer.echo(f"{name} is now {before.canary and before.canary.source}", err=True)


@adapters.command()
def withdraw(name: Name, config: Config, model: Model = None, folder: Folder = None) -> None:
    """Remove the canary of an adapter. Its answers that have begun end as they are."""
    of = model_with_adapters(config, model)
    before = _with_canary(name, config, of, folder)
    declared.write(folder_or_fail(of, folder), before.model_copy(update={"canary": None}))
    typer.echo(f"{name} has no canary any more", err=True)


@adapters.command()
def compare(
    name: Name,
    prompts: Annotated[
        Path, typer.Option("--prompts", help="A text file with a prompt in each line.", exists=True)
    ],
    url: Url = DEFAULT_URL,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", help="The most tokens of an answer.", min=1)
    ] = 256,
    api_key_env: ApiKeyEnv = None,
) -> None:
    """Ask both versions of an adapter each prompt of a file at temperature 0. Prints the answers
    that differ, and each version's errors and TTFT."""
    asked = [line for line in prompts.read_text().splitlines() if line.strip()]
    if not asked:
        raise fail(f"{prompts} has no prompts", BAD_OPTION)
    answers: dict[str, list[_Answer]] = {"stable": [], "canary": []}
    headers = bearer(key_from(api_key_env))
    with httpx.Client(base_url=url, headers=headers, timeout=_ASK_TIMEOUT_S) as http:
        for prompt in asked:
            body = {
                "model": name,
                "messages": [{"role": "user", "content": prompt}],
                "temperature": 0,
                "max_tokens": max_tokens,
                "stream": True,
            }
            for version, of_version in answers.items():
                of_version.append(_ask(http, url, body, version))
    different = 0
    for prompt, stable, tried in zip(asked, *answers.values(), strict=True):
        if stable.said != tried.said:
            different += 1
            typer.echo(f"{prompt}\n  stable: {stable.said}\n  canary: {tried.said}")
    typer.echo(f"{different} of {len(asked)} answers differ")
    for version, of_version in answers.items():
        errors = sum(one.error is not None for one in of_version)
        times = [one.ttft_s for one in of_version if one.ttft_s is not None]
        ttft = f"{1000 * statistics.median(times):.0f} ms" if times else "none"
        typer.echo(f"{version}: {errors} errors, median TTFT {ttft}")
    if any(one.error is not None for one in answers["canary"]):
        raise typer.Exit(1)


class _Answer:
    """The text of a streamed answer, or its error."""

    def __init__(self) -> None:
        self.text = ""
        self.error: str | None = None
        self.ttft_s: float | None = None

    @property
    def said(self) -> str:
        return self.text if self.error is None else f"error: {self.error}"

    def take(self, event: Any, since_s: float) -> None:
        if "error" in event:
            self.error = str(event["error"]["message"])
            return
        for choice in event["choices"]:
            text = choice["delta"].get("content") or ""
            if text and self.ttft_s is None:
                self.ttft_s = time.monotonic() - since_s
            self.text += text


def _ask(http: httpx.Client, url: str, body: dict[str, Any], version: str) -> _Answer:
    answer, began_s = _Answer(), time.monotonic()
    try:
        with http.stream(
            "POST", "/v1/chat/completions", json=body, headers={_VERSION: version}
        ) as response:
            if response.status_code != 200:
                response.read()
                answer.take(response.json(), began_s)
            else:
                _read(response, answer, began_s)
    except httpx.TransportError as error:
        raise unreachable(url, error) from None
    except NOT_UNDERSTOOD:
        raise fail(f"{url} does not answer as this service does") from None
    return answer


def _read(response: httpx.Response, answer: _Answer, began_s: float) -> None:
    for line in response.iter_lines():
        data = line.removeprefix("data: ")
        if data != line and data != "[DONE]":
            answer.take(json.loads(data), began_s)


def _declared(name: str, config: Path, of: ModelConfig, folder: Path | None) -> AdapterConfig:
    """Returns the declaration of an adapter in its model's folder."""
    if any(one.name == name for one in of.adapters):
        raise fail(f"{name} is declared in {config}: change it there", BAD_OPTION)
    path = declared.path_of(folder_or_fail(of, folder), name)
    if not path.exists():
        raise fail(f"there is no adapter {name}", BAD_OPTION)
    return declared.read(path)


def _with_canary(name: str, config: Path, of: ModelConfig, folder: Path | None) -> AdapterConfig:
    found = _declared(name, config, of, folder)
    if found.canary is None:
        raise fail(f"{name} has no canary", BAD_OPTION)
    return found
