"""Where Prometheus finds all that there is to scrape of the application, as its HTTP service
discovery has it."""

from collections.abc import Iterable
from typing import Any

from serving.router.peers.peers import PeerInfo
from serving.router.replicas.directory import Directory

Target = dict[str, Any]


def scrape_targets(directory: Directory, routers: Iterable[PeerInfo]) -> list[Target]:
    """Routers and engines; the labels say which it is, and are on all that is scraped there."""
    targets = [
        _target(router.metrics_address, component="router", router=router.router_id)
        for router in routers
        if router.metrics_address is not None
    ]
    for model_id, served in directory.models.items():
        if served.model.backend is not None:
            continue  # what others serve has metrics of its own, if any
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
