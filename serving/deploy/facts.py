"""What a cluster has, as far as a deployment needs to know."""

from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True)
class Right:
    """`resource` with its subresource, as pods/log; `namespace` empty for the whole cluster."""

    verb: str
    group: str
    resource: str
    namespace: str = ""

    @property
    def on(self) -> str:
        """As kubectl names the resource: rayservices.ray.io, pods/log."""
        plural, slash, subresource = self.resource.partition("/")
        return plural + (f".{self.group}" if self.group else "") + slash + subresource


@dataclass(frozen=True)
class Facts:
    """Lists of objects; None for what this user may not see.

    `kinds`: of each apiVersion and kind of the manifests, whether the cluster knows it.
    `secret_keys`: of each secret in the namespace, by its name.
    `denied`: rights that `apply` needs and this user lacks.
    `refusals`: what the server says to manifests on trial, by their names.
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
    """It has an autoscaler of nodes."""
