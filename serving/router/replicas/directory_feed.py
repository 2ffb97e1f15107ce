"""The class through which Ray Serve publishes a deployment's replicas to a router process.

Serve pickles the classes of this module by value into the routers, so the module holds no state:
what it imports is shared with the router, what it defines would be a copy.
"""

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from serving.router.replicas import feed


class DirectoryFeed(RequestRouter):
    """Receives each change of a deployment's running replicas; routes nothing itself."""

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        super().update_replicas(replicas)
        metadata = {r.replica_id.unique_id: r.replica_metadata for r in replicas}
        feed.publish(self._deployment_id.name, metadata)

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        return [candidate_replicas]
