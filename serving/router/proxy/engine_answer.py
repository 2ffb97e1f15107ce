"""Reads what the head of an engine's answer says."""

from typing import get_args

from serving.asgi import Headers, header
from serving.engine_protocol import DEAD, DEATH, NO_ADAPTER, REWRITES, SUSPECTS, UNAVAILABLE
from serving.mistral.normalise import Rewrite
from serving.poison import Reason
from serving.router.http import errors
from serving.router.replicas.replica_adapters import AdapterGoneError
from serving.router.replicas.upstream import Connection, EngineDeadError, NotTakenError

_REWRITES: tuple[Rewrite, ...] = get_args(Rewrite)
_REASONS: tuple[Reason, ...] = get_args(Reason)


def reported_number(headers: Headers, name: bytes) -> int | None:
    """Returns the number in this response header of the engine, if it has one."""
    value = header(headers, name)
    return int(value) if value is not None and value.isdigit() else None


def reported_rewrites(headers: Headers) -> tuple[Rewrite, ...]:
    """Returns how the engine says that it changed the request."""
    if (value := header(headers, REWRITES)) is None:
        return ()
    reported = value.decode("latin-1").split(",")
    return tuple(rewrite for rewrite in _REWRITES if rewrite in reported)


def check_taken(connection: Connection) -> None:
    """Raises NotTakenError if the engine rejected the request unprocessed: it drains, or (401) no
    longer belongs to this router's cluster; AdapterGoneError if it lacks the adapter. Raises
    EngineDeadError if it died, perhaps because of this request."""
    if connection.status == 401:
        raise NotTakenError("the engine belongs to another cluster")
    if connection.status == 503 and (why := header(connection.headers, UNAVAILABLE)) is not None:
        if why == DEAD:
            raise _death(connection.headers)
        if why == NO_ADAPTER:
            raise AdapterGoneError("the engine does not have the adapter")
        raise NotTakenError(f"the engine is {why.decode()}")


def _death(headers: Headers) -> EngineDeadError:
    """Returns what an engine says of its death. One that does not say why was killed."""
    why = (header(headers, DEATH) or b"").decode("latin-1")
    reason: Reason = next((reason for reason in _REASONS if reason == why), "killed")
    return EngineDeadError(reason, reported_number(headers, SUSPECTS))


def check_key(connection: Connection) -> None:
    """Raises ApiError if another server rejects the router's key, which its clients cannot mend."""
    if connection.status in (401, 403):
        raise errors.key_rejected(connection.status)


def meant_status(status: int, body: bytes) -> int:
    """Returns the status that another server's answer should have: LM Studio answers with 200 and
    an error if it has no such endpoint."""
    if status != 200 or not body.lstrip().startswith(b'{"error":'):
        return status
    return 404 if b"Unexpected endpoint" in body else 502


def is_event_stream(headers: Headers) -> bool:
    return (header(headers, b"content-type") or b"").startswith(b"text/event-stream")
