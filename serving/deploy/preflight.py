"""All checks of a cluster before a deployment."""

from collections.abc import Iterator

from serving.deploy import prerequisites
from serving.deploy.capacity import nodes
from serving.deploy.facts import Facts
from serving.deploy.finding import Finding
from serving.deploy.gpus import gpu_types
from serving.deploy.kuberay import operator
from serving.deploy.manifests import Manifests
from serving.deploy.monitoring import monitoring
from serving.deploy.quotas import quotas
from serving.deploy.reach import api_server
from serving.deploy.rights import rights
from serving.deploy.storage import storage


def preflight(manifests: Manifests, facts: Facts) -> Iterator[Finding]:
    yield prerequisites.kubernetes_version(facts)
    yield from rights(facts)
    yield from prerequisites.kinds(manifests, facts)
    yield operator(manifests, facts)
    yield from prerequisites.refusals(manifests, facts)
    yield prerequisites.images(manifests, facts)
    yield from prerequisites.runtime(manifests, facts)
    yield from api_server(manifests, facts)
    yield from prerequisites.needed_secrets(manifests, facts)
    yield from storage(manifests, facts)
    yield from quotas(manifests, facts)
    yield from nodes(manifests, facts)
    yield from gpu_types(manifests, facts)
    yield from monitoring(manifests, facts)
