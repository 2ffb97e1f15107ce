"""The endpoints by which operators see and clear the requests that end engines."""

import time

import msgspec
from fastapi import Depends, FastAPI, Response

from serving.router.http.authentication import Authentication
from serving.router.http.errors import ApiError
from serving.router.poison_list import PATH, GuiltyRequest, PoisonList
from serving.router.replicas.directory import Directory


def add_endpoints(api: FastAPI, directory: Directory, authentication: Authentication) -> None:
    """Adds the endpoints by which operators see and clear the list, at all routers."""
    of_operators = [Depends(authentication.check_admin)]

    @api.get(PATH, dependencies=of_operators)
    async def get_list() -> Response:
        """Returns a `PoisonList`."""
        now_s = time.monotonic()
        guilty = [
            GuiltyRequest(
                one.digest.hex(),
                model_id,
                one.reason,
                round(now_s - one.since_s, 1),
                round(one.expires_s - now_s, 1),
            )
            for model_id, served in directory.models.items()
            for one in served.trials.guard.memory
            if one.expires_s > now_s
        ]
        waiting = sum(served.trials.waiting for served in directory.models.values())
        body = msgspec.json.encode(PoisonList(guilty, waiting))
        return Response(body, headers={"content-type": "application/json"})

    @api.delete(PATH, dependencies=of_operators)
    async def clear() -> dict[str, int]:
        """Clears the list."""
        return {"cleared": _pardon(directory, None)}

    @api.delete(f"{PATH}/{{digest}}", dependencies=of_operators)
    async def clear_one(digest: str) -> dict[str, int]:
        """Clears one request."""
        try:
            cleared = _pardon(directory, bytes.fromhex(digest))
        except ValueError:
            cleared = 0
        if not cleared:
            raise ApiError(
                404,
                "No request of that digest is refused. GET /-/poison lists them.",
                code="not_found",
            )
        return {"cleared": cleared}


def _pardon(directory: Directory, digest: bytes | None) -> int:
    return sum(served.trials.guard.pardon(digest) for served in directory.models.values())
