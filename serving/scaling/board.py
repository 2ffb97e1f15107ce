"""Where the routers' policy leaves their reports for the engines' policies, within the process of
Serve's controller.

An application-level policy would get the metrics of all its deployments, but Serve 2.60 takes one
only from the application's config file, and documents it as unsupported.
"""

from collections.abc import Mapping, Sequence
from typing import Any

RawMetrics = Mapping[str, Mapping[Any, Sequence[Any]]]
"""The form of `AutoscalingContext.raw_metrics`: for each name, the points in time of each replica.
"""

_routers: dict[str, RawMetrics] = {}


def publish(app_name: str, metrics: RawMetrics) -> None:
    _routers[app_name] = metrics


def series(app_name: str) -> dict[str, dict[str, list[tuple[float, float]]]]:
    return {
        name: {
            replica_id.unique_id: [(point.timestamp, point.value) for point in points]
            for replica_id, points in by_replica.items()
        }
        for name, by_replica in _routers.get(app_name, {}).items()
    }
