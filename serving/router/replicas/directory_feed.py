"""The class by which Ray Serve tells a router process of a deployment's replicas.

Serve ships the classes of this module to the routers by value, so it holds no state: what
it imports is shared with the router, what it defines would be a copy.
"""

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from serving.router.replicas import feed


class DirectoryFeed(RequestRouter):
    """Told of each change of a deployment's running replicas; routes nothing itself."""

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
