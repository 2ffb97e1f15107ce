"""`mistral-serve conformance`: checks whether a server keeps what the models' documents promise."""

import asyncio
from typing import Annotated, Literal

import typer

from serving.cli.client import DEFAULT_URL, ApiKeyEnv, Url, fail, key_from
from serving.conformance import report
from serving.conformance.model import FAMILIES, Model, UnknownFamily
from serving.conformance.runner import NoServer, Result, find_model, run
from serving.conformance.server import Server, new_client
from serving.conformance.suite import CHECKS
from serving.conformance.tokens import load_tokenizer

Family = Literal["3.2", "2501", "magistral"]
"""The model cards, named as in FAMILIES."""


def conformance(
    url: Url = DEFAULT_URL,
    model: Annotated[
        str | None, typer.Option(help="Model to check. Default: the server's first.")
    ] = None,
    api_key_env: ApiKeyEnv = None,
    profile: Annotated[
        Literal["tiny", "real"] | None, typer.Option(help="Kind of model. Default: by its id.")
    ] = None,
    family: Annotated[
        Family | None, typer.Option(help="Model card to check against. Default: by the model's id.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="The model's tekken.json, to compare token ids.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Check any server of a Mistral 24B model against the models' documents; exits 1 on a
    failure."""
    api_key = key_from(api_key_env)
    if tokenizer is not None:
        try:
            load_tokenizer(tokenizer)
        except Exception as error:  # mistral-common's own exceptions have no common base
            raise fail(f"--tokenizer {tokenizer} is no tekken.json: {error}") from None
    found, results = asyncio.run(
        _run(
            url,
            model,
            api_key,
            None if profile is None else profile == "tiny",
            family,
            tokenizer,
            quiet=json,
        )
    )
    typer.echo(report.as_json(url, found, results) if json else report.summary(results))
    if any(result.status == "fail" for result in results):
        raise typer.Exit(1)


async def _run(
    url: str,
    name: str | None,
    api_key: str | None,
    tiny: bool | None,
    family: Family | None,
    tokenizer: str | None,
    quiet: bool,
) -> tuple[Model, list[Result]]:
    async with new_client(url, api_key) as http:
        try:
            model = await find_model(http, name, FAMILIES[family] if family else None, tiny)
        except NoServer as error:
            raise fail(f"{error}. Set the server's address with --url.") from None
        except UnknownFamily as error:
            families = ", ".join(FAMILIES)
            raise fail(
                f"the model card of {error} is unknown; set --family to one of {families}"
            ) from None
        if not quiet:
            typer.echo(f"{model.id} at {url}, by the card of {model.family.name}")
        results = []
        async for result in run(Server(http, model, api_key, tokenizer), CHECKS):
            results.append(result)
            if not quiet:
                typer.echo(report.line(result))
        return model, results
