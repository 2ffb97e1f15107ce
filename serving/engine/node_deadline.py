"""The time that is left for this process's node, after which it will be gone."""

import asyncio
import functools
import logging
import math
import time
from collections.abc import Callable
from typing import Any

import ray

log = logging.getLogger(__name__)

_PERIOD_S = 1
_TIMEOUT_S = 5


async def follow_node(on_deadline: Callable[[float], object]) -> None:
    """Calls `on_deadline` with the seconds until this node is gone, once a second from when Ray's
    head knows of it. Runs until it is cancelled."""
    is_away = False
    while True:
        try:
            left_s = await asyncio.to_thread(node_left_s)
        except Exception as error:  # Ray raises many types
            if not is_away:
                log.warning("Ray's head does not say whether this node drains: %s", error)
            is_away = True
        else:
            is_away = False
            if left_s < math.inf:
                on_deadline(left_s)
        await asyncio.sleep(_PERIOD_S)


def node_left_s() -> float:
    """Returns the seconds until this node is gone, by Ray's head; infinity if it stays, or if it
    has outlived its deadline: `mistral-serve drain-node` sets one that has passed to have replicas
    stopped at once. Raises what Ray's client raises if the head does not answer."""
    context = ray.get_runtime_context()
    deadlines_ms = _head(context.gcs_address).get_draining_nodes(timeout=_TIMEOUT_S)
    left_s = deadlines_ms.get(context.get_node_id(), 0) / 1000 - time.time()
    return float(left_s) if left_s > 0 else math.inf


@functools.cache
def _head(address: str) -> Any:
    """Returns a client that reconnects by itself."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    return GcsClient(address=address)
