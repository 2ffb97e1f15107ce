"""Sends a request to a replica that has its adapter."""

from collections.abc import Awaitable, Callable

from serving.router.proxy.exchange import Exchange
from serving.router.replicas.replica import Replica
from serving.router.replicas.replica_adapters import AdapterGoneError, AdapterNotLoadedError
from serving.router.replicas.upstream import Connection


async def send_on_adapter(
    exchange: Exchange, replica: Replica, send: Callable[[], Awaitable[Connection]]
) -> Connection:
    """Has the replica load the adapter of a request, and sends the request. Raises what `send`
    raises, and AdapterNotLoadedError."""
    assert exchange.adapter is not None and replica.adapters is not None
    version = exchange.adapter.version
    for _ in range(2):
        await replica.adapters.ensure(version)
        try:
            return await send()
        except AdapterGoneError:
            replica.adapters.forget(version.digest)
    raise AdapterNotLoadedError("it drops the adapter again before it is used")
