"""Has a replica tokenize the text that a client already has."""

from serving.router.proxy.engine_answer import check_taken
from serving.router.proxy.request import decode
from serving.router.proxy.stream_resumption import NotContinuedError
from serving.router.replicas.replica import Replica
from serving.router.replicas.upstream import read_all


async def tokens_of(replica: Replica, headers: bytes, question: bytes) -> list[int]:
    """Returns the answer of the engine's /tokenize to `question`; `headers` are the lines with the
    engines' token and of an adapter. Raises UpstreamError."""
    head = b"POST /tokenize HTTP/1.1\r\nhost: engine\r\ncontent-type: application/json\r\n"
    head += b"%bcontent-length: %d\r\n\r\n" % (headers, len(question))
    connection = await replica.pool.request(head, question)
    try:
        check_taken(connection)
        body = await read_all(connection)
    finally:
        replica.pool.release(connection)
    if connection.status != 200:
        raise NotContinuedError(f"it answers {connection.status} to /tokenize")
    tokens: list[int] = decode(body)["tokens"]
    return tokens
