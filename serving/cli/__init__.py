"""The `mistral-serve` command."""

import typer

from serving.cli.batch import batch
from serving.cli.chat import chat
from serving.cli.conformance import conformance
from serving.cli.down import down
from serving.cli.models import models
from serving.cli.monitor import monitor
from serving.cli.simulate import simulate
from serving.cli.status import status
from serving.cli.top import top
from serving.cli.up import up

app = typer.Typer(
    help="Serve Mistral's 24B models: vLLM replicas on Ray Serve behind a router.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (up, status, top, monitor, chat, batch, conformance, models, simulate, down):
    app.command()(command)


def main() -> None:
    app()
