"""`mistral-serve deploy rollout`: a new model or image, with a check and a rollback."""

from pathlib import Path
from typing import Annotated

import typer

from serving.cli.client import ApiKeyEnv, checked_url, key_from
from serving.cli.deploy_cluster import (
    DEFAULT_SOURCE,
    Context,
    Source,
    Timeout,
    cluster,
    say_kubectl,
)
from serving.cli.up import Progress
from serving.deploy import manifests
from serving.deploy import rollout as change
from serving.deploy.check import address, failed_checks, probed
from serving.deploy.effect import Effect, described
from serving.deploy.errors import DeployError
from serving.deploy.kube import Kube
from serving.deploy.serve_config import model_ids
from serving.deploy.verdict import faults

UNDO = "kubectl apply --server-side --force-conflicts -f {}"


def rollout(
    source: Source = DEFAULT_SOURCE,
    context: Context = None,
    timeout_min: Timeout = 60,
    url: Annotated[
        str | None,
        typer.Option(
            help="Address of the service from here. Default: through the API server.",
            callback=lambda url: url and checked_url(url),
        ),
    ] = None,
    api_key_env: ApiKeyEnv = None,
    requests: Annotated[
        int, typer.Option(min=1, help="Requests of the check, before and after.")
    ] = 40,
    max_error_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the check's requests that may fail.")
    ] = 0.0,
    max_ttft_s: Annotated[
        float | None,
        typer.Option(min=0, help="Highest median TTFT. Default: 1.5 times the one before."),
    ] = None,
    conformance: Annotated[
        bool, typer.Option("--conformance", help="Run the conformance suite on each model too.")
    ] = False,
) -> None:
    """Roll the changes of MANIFESTS out to the running service, check it, and roll back if it is
    worse; exits 1 after a rollback.

    What is not in MANIFESTS does not change: edit the image or the model there first. Weights come
    first, then the RayService. By hand: kubectl apply --server-side --force-conflicts -f k8s;
    kubectl -n mistral-serve get rayservice -w; kubectl -n mistral-serve port-forward svc/router
    8000; mistral-serve conformance; and the same apply with the old manifests to roll back.
    """
    api_key = key_from(api_key_env)
    say = Progress()
    wanted = manifests.read(source)
    ids = model_ids(wanted.service)
    kube = cluster(context)
    plan = change.plan(kube, wanted)
    if not plan.changes:
        say("nothing to roll out: the cluster already has what the manifests say")
        return
    say_plan(plan, say)
    if Effect.ignored in plan.effects:
        raise DeployError(
            f"{described(Effect.ignored, wanted.service)}. To apply it with an interruption: "
            f"kubectl -n {wanted.namespace} delete rayservice "
            f"{wanted.service['metadata']['name']}, then mistral-serve deploy apply {source} "
            "--wait. Without one: set it to NewCluster, if there are GPUs for a "
            "second cluster."
        )
    with address(kube, wanted.namespace, url) as here:
        before = probed(here, api_key, requests)
    say(f"before: {before}")
    old = change.saved(plan)
    say_kubectl(f"kubectl apply --server-side --force-conflicts {wanted.source}", context=context)
    typer.secho(f"to roll back by hand: {UNDO.format(old)}", err=True, dim=True)
    found: list[str] = []
    try:
        change.roll_out(kube, plan, timeout_min * 60, say)
        with address(kube, wanted.namespace, url) as here:
            after = probed(here, api_key, requests)
            say(f"after: {after}")
            found = [f"{model} is not served" for model in ids if model not in after.models]
            failed = failed_checks(here, api_key, ids) if conformance and not found else []
        found += faults(before, after, max_error_rate, max_ttft_s, failed)
    except DeployError as error:
        found = [str(error)]
    if not found:
        say("rolled out")
        old.unlink()
        return
    fail_after_rollback(kube, plan, found, timeout_min * 60, say, old)


def say_plan(plan: change.Plan, say: Progress) -> None:
    for each in plan.changes:
        say(f"changes {each.name}")
    for effect in plan.effects:
        say(f"effect: {described(effect, plan.manifests.service)}")


def fail_after_rollback(
    kube: Kube, plan: change.Plan, found: list[str], timeout_s: float, say: Progress, old: Path
) -> None:
    """Rolls back to the old version. Always raises DeployError."""
    for fault in found:
        say(f"failed: {fault}")
    say("rolling back")
    try:
        change.roll_back(kube, plan, timeout_s, say)
    except DeployError as error:
        raise DeployError(f"the rollback failed: {error}\nBy hand: {UNDO.format(old)}") from None
    old.unlink()
    raise DeployError("not rolled out: the old version serves again")
