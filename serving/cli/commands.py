"""The subcommands of `mistral-serve`."""

import typer

from serving.cli.adapter_canary import canary, compare, promote, withdraw
from serving.cli.adapters import adapters
from serving.cli.batch import batch
from serving.cli.calibrate import calibrate
from serving.cli.chat import chat
from serving.cli.conformance import conformance
from serving.cli.deploy import deploy
from serving.cli.down import down
from serving.cli.drain_node import drain_node
from serving.cli.keys import keys
from serving.cli.models import models
from serving.cli.monitor import monitor
from serving.cli.plan import plan_command
from serving.cli.poison import poison
from serving.cli.simulate import simulate
from serving.cli.status import status
from serving.cli.top import top
from serving.cli.up import up
from serving.cli.usage import usage
from serving.cli.weights import weights

app = typer.Typer(
    help="Serve Mistral's 24B models: vLLM replicas on Ray Serve behind a router.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    up,
    status,
    top,
    usage,
    monitor,
    chat,
    batch,
    conformance,
    models,
    simulate,
    calibrate,
    down,
    weights,
    drain_node,
):
    app.command()(command)
app.command("plan")(plan_command)
for of_canary in (canary, compare, promote, withdraw):
    adapters.command()(of_canary)
app.add_typer(adapters, name="adapters")
app.add_typer(keys, name="keys")
app.add_typer(deploy, name="deploy")
app.add_typer(poison, name="poison")
