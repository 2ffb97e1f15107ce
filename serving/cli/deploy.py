"""`mistral-serve deploy`: the service on Kubernetes."""

import typer

from serving.cli.deploy_apply import apply
from serving.cli.deploy_bundle import support_bundle
from serving.cli.deploy_cluster import Reporting
from serving.cli.deploy_delete import delete
from serving.cli.deploy_diff import diff
from serving.cli.deploy_drain import drain
from serving.cli.deploy_lint import lint
from serving.cli.deploy_logs import logs
from serving.cli.deploy_preflight import preflight
from serving.cli.deploy_rollout import rollout
from serving.cli.deploy_status import status

deploy = typer.Typer(
    cls=Reporting,
    help="Run the service on Kubernetes. Each command names the kubectl commands that do the same.",
    no_args_is_help=True,
)
for command in (lint, preflight, apply, status, diff, rollout, drain, logs, support_bundle, delete):
    deploy.command()(command)
