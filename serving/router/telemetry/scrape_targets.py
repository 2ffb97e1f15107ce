"""The scrape targets of the application, in the format of Prometheus' HTTP service discovery."""

from collections.abc import Iterable
from typing import Any

from serving.router.peers.peers import PeerInfo
from serving.router.replicas.directory import Directory

Target = dict[str, Any]


def scrape_targets(directory: Directory, routers: Iterable[PeerInfo]) -> list[Target]:
    """Lists routers and engines; the labels say which each is, and are added to all its series."""
    targets = [
        _target(router.metrics_address, component="router", router=router.router_id)
        for router in routers
        if router.metrics_address is not None
    ]
    for model_id, served in directory.models.items():
        if served.model.backend is not None:
            continue  # external servers expose metrics of their own, if any
        for replica in served.replicas:
            info = replica.info
            targets.append(
                _target(
                    f"{info.host}:{info.port}",
                    component="engine",
                    model=model_id,
                    replica=info.replica_id,
                )
            )
    return targets


def _target(address: str, **labels: str) -> Target:
    return {"targets": [address], "labels": labels}
