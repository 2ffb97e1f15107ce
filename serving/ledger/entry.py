"""The entries of the ledger: a line for each request that an engine has worked for."""

from datetime import datetime
from typing import Any

import msgspec

ROUTER_ENDED = "router_ended"
"""The outcome of a request whose router ended before it did."""


class Entry(msgspec.Struct, omit_defaults=True):
    """What one request used, however many engines have worked for it."""

    id: int
    """Unique among the entries of one router process."""
    at: datetime
    """When the request ended, or when it was last heard of."""
    request_id: str
    tenant: str
    model: str
    adapter_version: str | None = None
    """The digest of the version that answered, if the model is an adapter."""
    key_id: str | None = None
    outcome: str = "answered"
    """The outcome in the request log; `ROUTER_ENDED`: the counts are what was known by then."""
    input_tokens: int = 0
    """Prompt tokens, with cached ones."""
    cached_tokens: int = 0
    output_tokens: int = 0
    """Answer tokens that the client was sent, or that were generated until it left."""
    repeated_input_tokens: int = 0
    """Prompt tokens that engines read beyond these: for each further choice of `n`, after the
    failure of a replica, or for an answer that failed."""
    wasted_output_tokens: int = 0
    """Tokens that engines generated and no client got."""
    gpu_s: float = 0.0
    """Estimated GPU-seconds, of all engines; see `serving.ledger.gpu_time`."""
    retries: int = 0
    continued: int = 0
    background: bool = False
    batch_id: str | None = None
    """The batch that the request is a line of."""
    estimated: bool = False
    """Whether a count is the router's own, as an engine did not report it."""


class Snapshot(msgspec.Struct):
    """What a router has in flight, written every second: also the sign that it is alive."""

    router: str
    at: datetime
    entries: list[Entry] = []
    """The entries of its requests as they would be if it ended now."""


encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode
_decode_snapshot = msgspec.json.Decoder(Snapshot).decode

NOT_DECODED = (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError)


def lines_of(entries: list[Entry]) -> bytes:
    return b"".join([encode(entry) + b"\n" for entry in entries])


def read_lines(data: bytes) -> tuple[list[Entry], int, int]:
    """Returns the entries of whole lines, the number of bytes that these lines take, and how many
    of them are damaged. A last line without its end is torn, or still being written: it is left."""
    whole = data[: data.rfind(b"\n") + 1]
    entries, damaged = [], 0
    for line in whole.splitlines():
        try:
            entries.append(_decode(line))
        except NOT_DECODED:
            damaged += 1
    return entries, len(whole), damaged


def read_snapshot(data: bytes) -> Snapshot:
    """Raises one of `NOT_DECODED`."""
    snapshot: Any = _decode_snapshot(data)
    assert isinstance(snapshot, Snapshot)
    return snapshot
