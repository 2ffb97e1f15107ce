"""The objects of OpenAI's API for files and batches."""

import re
import secrets
import time
from typing import Literal

import msgspec

Status = Literal[
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
]
ENDED = frozenset(("failed", "completed", "expired", "cancelled"))

COMPLETION_WINDOW = "24h"
COMPLETION_WINDOW_S = 24 * 3600

_ID = re.compile(r"(file|batch)[-_][0-9a-f]{32}[oe]?")


class FileObject(msgspec.Struct, kw_only=True):
    """A file, as the API shows it."""

    id: str
    object: str = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: str = "processed"


class Creator(msgspec.Struct):
    """What the key that a batch was created with may do, which its lines may not exceed. None: all,
    as in `Caller`."""

    key_id: str | None
    models: list[str] | None
    endpoints: list[str] | None


class OutputExpiresAfter(msgspec.Struct):
    """For how long the files of a batch's answers and failed requests are kept."""

    seconds: int
    anchor: Literal["created_at"] = "created_at"
    """Counted from the creation of each file."""


class RequestCounts(msgspec.Struct):
    total: int = 0
    completed: int = 0
    failed: int = 0


class LineError(msgspec.Struct):
    """A mistake in the input file. `line` counts from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Errors(msgspec.Struct):
    data: list[LineError]
    object: str = "list"


class Batch(msgspec.Struct, kw_only=True):
    """A batch, as the API shows it. Times are Unix timestamps in seconds."""

    id: str
    object: str = "batch"
    endpoint: str
    errors: Errors | None = None
    input_file_id: str
    completion_window: str = COMPLETION_WINDOW
    status: Status = "validating"
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts = msgspec.field(default_factory=RequestCounts)
    metadata: dict[str, str] | None = None
    output_expires_after: OutputExpiresAfter | None = None

    @property
    def output_id(self) -> str:
        """The id that the file of its answers gets, the same after each resumption."""
        return f"file-{self.id.removeprefix('batch_')}o"

    @property
    def errors_id(self) -> str:
        """The id that the file of its failed requests gets."""
        return f"file-{self.id.removeprefix('batch_')}e"


def new_id(prefix: Literal["file-", "batch_"]) -> str:
    """Returns an id. Those of one prefix are ordered by their time."""
    return f"{prefix}{time.time_ns():016x}{secrets.token_hex(8)}"


def is_id(text: str) -> bool:
    """Whether `text` may be an id, and so is safe as a file's name."""
    return _ID.fullmatch(text) is not None
