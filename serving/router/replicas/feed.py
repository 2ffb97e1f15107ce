"""Passes Ray Serve's updates of the running replicas to the router."""

from collections.abc import Callable, Mapping
from typing import Any

from ray.serve.handle import DeploymentHandle

Replicas = Mapping[str, Mapping[str, Any]]
"""The metadata of a deployment's running replicas, by replica id."""

Listener = Callable[[Replicas], object]

# Serve stops its updates when the handle is garbage collected.
_subscriptions: dict[str, tuple[DeploymentHandle[Any], Listener]] = {}


def subscribe(handle: DeploymentHandle[Any], listener: Listener) -> None:
    """Has `listener` called, in Serve's own thread, with the running replicas of the handle's
    deployment: soon with the current ones, then on each change."""
    _subscriptions[handle.deployment_name] = (handle, listener)
    handle.options()  # Starts the updates: a handle is passive until first used.


def publish(deployment_name: str, replicas: Replicas) -> None:
    """Passes the running replicas of a deployment to its subscriber in this process."""
    _, listener = _subscriptions[deployment_name]
    listener(replicas)
