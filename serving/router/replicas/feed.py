"""Ray Serve's pushes of who is alive, handed to the router."""

from collections.abc import Callable, Mapping
from typing import Any

from ray.serve.handle import DeploymentHandle

Replicas = Mapping[str, Mapping[str, Any]]
"""The metadata of the running replicas of a deployment, by their ids."""

Listener = Callable[[Replicas], object]

# The handle is kept because Serve's updates end with it.
_subscriptions: dict[str, tuple[DeploymentHandle[Any], Listener]] = {}


def subscribe(handle: DeploymentHandle[Any], listener: Listener) -> None:
    """Has `listener` called, in Serve's own thread, with the running replicas of the handle's
    deployment: soon for those of now, then at each change.
    """
    _subscriptions[handle.deployment_name] = (handle, listener)
    handle.options()  # Starts the updates; a handle is passive until its first use.


def publish(deployment_name: str, replicas: Replicas) -> None:
    """Passes the running replicas of a deployment to its subscriber in this process."""
    _, listener = _subscriptions[deployment_name]
    listener(replicas)
