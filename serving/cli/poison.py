"""`mistral-serve poison`: the requests that a service refuses because they end engines."""

from typing import Annotated

import msgspec
import typer

from serving.cli.client import DEFAULT_URL, AdminKeyEnv, Url
from serving.cli.service_status import asking
from serving.router.poison_list import PATH, PoisonList

poison = typer.Typer(
    help="See and clear the requests that the service refuses because they end engines.",
    no_args_is_help=True,
)

_decode = msgspec.json.Decoder(PoisonList).decode


@poison.command("list")
def list_command(url: Url = DEFAULT_URL, admin_key_env: AdminKeyEnv = None) -> None:
    """List the requests that are refused, with their digests."""
    with asking(url, admin_key_env) as client:
        found = _decode(client.get(PATH).raise_for_status().content)
    for one in found.guilty:
        typer.echo(
            f"{one.digest}  {one.model}  {one.reason}  {one.judged_s_ago:.0f} s ago, "
            f"for {one.expires_in_s:.0f} s more"
        )
    if not found.guilty:
        typer.echo("no request is refused")
    if found.waiting:
        typer.echo(f"{found.waiting} requests wait as suspects of an engine's death")


@poison.command()
def clear(
    digest: Annotated[str, typer.Argument(help="The digest of one request; without it all.")] = "",
    url: Url = DEFAULT_URL,
    admin_key_env: AdminKeyEnv = None,
) -> None:
    """Have the service serve them again, which may end engines."""
    path = f"{PATH}/{digest}" if digest else PATH
    with asking(url, admin_key_env) as client:
        answer = client.delete(path)
        if digest and answer.status_code == 404:
            typer.echo(f"no request of the digest {digest} is refused")
            raise typer.Exit(1)
        cleared = answer.raise_for_status().json()["cleared"]
    typer.echo(f"{cleared} cleared")
