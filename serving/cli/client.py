"""What the commands that talk to a running service share."""

from typing import Annotated

import typer

Url = Annotated[str, typer.Option(help="Where the service is.", envvar="MISTRAL_SERVE_URL")]

DEFAULT_URL = "http://127.0.0.1:8000"


def fail(message: str, code: int = 1) -> typer.Exit:
    """Prints `mistral-serve: message` on stderr; the caller raises what is returned."""
    typer.echo(f"mistral-serve: {message}", err=True)
    return typer.Exit(code)


def unreachable(url: str) -> typer.Exit:
    return fail(f"nothing answers at {url}. Start it with `make serve`, or say where with --url.")
