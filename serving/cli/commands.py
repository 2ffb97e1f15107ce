"""The subcommands of `mistral-serve`. Each is imported when it is asked for: all take a second."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

NAMES = (
    "up",
    "status",
    "top",
    "usage",
    "monitor",
    "chat",
    "batch",
    "conformance",
    "models",
    "simulate",
    "calibrate",
    "down",
    "weights",
    "drain-node",
    "plan",
    "adapters",
    "keys",
    "deploy",
    "poison",
)
# It adds its commands to those of adapters.py.
_MODULES = {"adapters": "adapter_canary"}


class _Commands(TyperGroup):
    def __init__(self, **settings: Any) -> None:
        # Names are enough for the help's order and for proposals on a typing error.
        super().__init__(**settings | {"commands": dict.fromkeys(NAMES)})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command in the module of its name: a function, or a Typer of several."""
        if cmd_name not in self.commands:
            return None
        name = cmd_name.replace("-", "_")
        found = getattr(import_module(f"serving.cli.{_MODULES.get(name, name)}"), name)
        if isinstance(found, typer.Typer):
            group = typer.main.get_group(found)
            group.name = cmd_name  # the help lists it by this
            return group
        alone = typer.Typer(add_completion=False)
        alone.command(cmd_name)(found)
        return typer.main.get_command(alone)


app = typer.Typer(
    cls=_Commands,
    help="Serve Mistral's 24B models: vLLM replicas on Ray Serve behind a router.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _group() -> None:
    """Has Typer make a group of an app that it knows no command of."""
