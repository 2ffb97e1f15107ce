"""`mistral-serve status`: models, their replicas, and what runs on them."""

from typing import Any

import httpx
import typer

from serving.cli.client import DEFAULT_URL, NOT_UNDERSTOOD, Url, fail, unreachable


def status(url: Url = DEFAULT_URL) -> None:
    """Show the models of a running service and their replicas; exits 1 if one has none."""
    try:
        with httpx.Client(base_url=url, timeout=5) as client:
            replicas = client.get("/-/replicas").raise_for_status().json()
            versions = client.get("/version").raise_for_status().json()
        head = f"{url}  {', '.join(f'{name} {number}' for name, number in versions.items())}"
        lines = [line for model in replicas.items() for line in model_lines(*model)]
        all_up = all(replicas.values())
    except httpx.HTTPStatusError as error:
        raise fail(
            f"{error.request.url} answers {error.response.status_code}: --url must be the address "
            "of a service of mistral-serve, without /v1."
        ) from None
    except httpx.HTTPError:
        raise unreachable(url) from None
    except NOT_UNDERSTOOD:
        raise fail(
            f"what answers at {url} is no service of mistral-serve. Say where one is with --url."
        ) from None
    for line in [head, *lines]:
        typer.echo(line)
    if not all_up:
        raise typer.Exit(1)


def model_lines(model_id: str, replicas: Any) -> list[str]:
    """A model of /-/replicas."""
    replica_lines = [
        f"  {replica['replica']}  {replica['address']}  "
        f"{replica['requests_in_flight']} requests and "
        f"{replica['tokens_in_flight']} tokens in flight"
        for replica in replicas
    ]
    return [model_id, *(replica_lines or ["  no replica is up"])]
