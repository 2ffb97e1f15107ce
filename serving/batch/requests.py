"""Reads the input file line by line, as it may be larger than memory."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from serving.batch.lines import Request, parse_request

MAX_LINE_BYTES = 256 * 1024 * 1024
"""Longest line. It fits ten images of 10 MB each in base64, and a file without newlines is not read
whole."""

_ERRORS_SHOWN = 10


@dataclass(frozen=True)
class Mistake:
    """A mistake on a line, which counts from 1; None: in the whole file."""

    line: int | None
    message: str


class InputError(Exception):
    """The input cannot be run. The message has a line `file:line: mistake` for each mistake."""

    def __init__(self, message: str, mistakes: Sequence[Mistake] = ()) -> None:
        super().__init__(message)
        self.mistakes = mistakes


def index(
    file: BinaryIO, name: str, *, url: str | None = None, most: int | None = None
) -> dict[str, int]:
    """Checks all lines and returns the byte offset of each by its custom_id, in the file's order.
    With `url` all must be for that one, and there may be `most` of them. Raises InputError, in
    whose message `name` stands for the file."""
    offsets: dict[str, int] = {}
    mistakes: list[Mistake] = []
    for number, offset, line in read_lines(file):
        try:
            request = parse_request(line)
            if request.custom_id in offsets:
                raise ValueError(f"`custom_id` '{request.custom_id[:100]}' stands on two lines")
            if url is not None and request.url != url:
                raise ValueError(f"`url` must be the endpoint of the batch, {url}")
            offsets[request.custom_id] = offset
        except ValueError as error:
            mistakes.append(Mistake(number, str(error)))
            if len(mistakes) == _ERRORS_SHOWN:
                mistakes.append(Mistake(None, "(the rest was not checked)"))
                break
        if most is not None and len(offsets) > most:
            mistakes.append(Mistake(None, f"more than {most} requests in it"))
            break
    if not mistakes and not offsets:
        mistakes.append(Mistake(None, "no requests in it"))
    if mistakes:
        raise InputError("\n".join(_shown(name, mistake) for mistake in mistakes), mistakes)
    return offsets


def _shown(name: str, mistake: Mistake) -> str:
    if mistake.line is not None:
        return f"{name}:{mistake.line}: {mistake.message}"
    return mistake.message if mistake.message.startswith("(") else f"{name}: {mistake.message}"


def read_at(file: BinaryIO, offset: int, custom_id: str) -> Request:
    """The request that `index` found at that offset. Raises InputError if the file has changed
    there."""
    file.seek(offset)
    with contextlib.suppress(ValueError):
        request = parse_request(file.readline(MAX_LINE_BYTES))
        if request.custom_id == custom_id:
            return request
    raise InputError("the input was changed while the batch ran: run it again")


def read_lines(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Yields the number (from 1), byte offset and bytes of each line that is not blank. A line
    longer than MAX_LINE_BYTES comes in pieces, which are not JSON."""
    number = offset = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        if not line.isspace():
            yield number, offset, line
        offset += len(line)
