"""Checks a service at its address: a probe, and if wanted the conformance suite."""

import asyncio
import contextlib
from collections.abc import Iterator

from serving.conformance.model import UnknownFamily
from serving.conformance.runner import NoServer, find_model, run
from serving.conformance.server import Server, new_client
from serving.conformance.suite import CHECKS
from serving.deploy.errors import DeployError
from serving.deploy.forward import forwarded, reachable, serve_port
from serving.deploy.kube import Kube
from serving.deploy.objects import is_ending, is_ready, labels_of
from serving.deploy.probe import Probed, probe
from serving.deploy.snapshot import take
from serving.deploy.stages import CLUSTER, active_cluster


@contextlib.contextmanager
def address(kube: Kube, namespace: str, url: str | None) -> Iterator[str]:
    """The service's address: `url`, or a port forwarded to one of its routers."""
    if url is not None:
        yield url
        return
    snapshot = take(kube, namespace)
    cluster = active_cluster(snapshot.service or {})
    for pod in snapshot.pods:
        port = serve_port(pod)
        if port is None or labels_of(pod).get(CLUSTER) != cluster:
            continue
        if is_ready(pod) and not is_ending(pod):
            reachable(kube, pod, port)
            with forwarded(kube, pod, port) as local:
                yield local
            return
    raise DeployError(f"no router is ready in {namespace}: see `mistral-serve deploy status`")


def probed(url: str, api_key: str | None, requests: int) -> Probed:
    """Probes all models that the service lists. Raises DeployError."""
    return asyncio.run(probe(url, api_key, requests))


def failed_checks(url: str, api_key: str | None, ids: list[str]) -> list[str]:
    """Failed conformance checks of each model; one of another family is skipped."""
    return [failure for model in ids for failure in asyncio.run(_suite(url, api_key, model))]


async def _suite(url: str, api_key: str | None, name: str) -> list[str]:
    async with new_client(url, api_key) as http:
        try:
            model = await find_model(http, name, None, None)
        except UnknownFamily:
            return []
        except NoServer as error:
            return [str(error)]
        return [
            f"{result.check.name}: {result.reason}"
            async for result in run(Server(http, model, api_key, None), CHECKS)
            if result.status == "fail"
        ]
