"""Facts about a cluster that a deployment depends on."""

import re
from dataclasses import dataclass

from serving.deploy.objects import Object


@dataclass(frozen=True)
class Right:
    """A permission. `resource` includes the subresource, as in pods/log; `namespace` is empty for
    the whole cluster.
    """

    verb: str
    group: str
    resource: str
    namespace: str = ""

    @property
    def on(self) -> str:
        """The resource as kubectl names it: rayservices.ray.io, pods/log."""
        plural, slash, subresource = self.resource.partition("/")
        return plural + (f".{self.group}" if self.group else "") + slash + subresource


@dataclass(frozen=True)
class Facts:
    """Lists of objects; None for those that this user may not see.

    `kinds` tells for each apiVersion and kind of the manifests whether the cluster knows it.
    `secret_keys` has the keys of each secret in the namespace, by its name. `denied` are rights
    that `apply` needs and this user lacks. `refusals` are the server's answers to a dry run, by the
    names of the manifests that it refused.
    """

    version: str
    kinds: dict[tuple[str, str], bool]
    deployments: list[Object] | None
    namespaces: list[Object] | None
    nodes: list[Object] | None
    pods: list[Object] | None
    storage_classes: list[Object] | None
    volume_claims: list[Object] | None
    quotas: list[Object] | None
    secret_keys: dict[str, set[str]] | None
    denied: tuple[Right, ...] = ()
    refusals: dict[str, str] | None = None
    adds_nodes: bool = False
    """Whether the cluster has an autoscaler of nodes."""
    limit_ranges: list[Object] | None = None
    csi_drivers: list[Object] | None = None
    runtime_classes: list[Object] | None = None
    prometheuses: list[Object] | None = None
    api_endpoints: list[Object] | None = None
    """The EndpointSlices of the API server."""


def version_of(text: str) -> tuple[int, int] | None:
    """Major and minor of a version such as v1.32.4; None for another text."""
    match = re.match(r"v?(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None
