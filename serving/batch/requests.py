"""The input file, read line by line: it may be larger than memory."""

import contextlib
from collections.abc import Iterator
from typing import BinaryIO

from serving.batch.lines import Request, parse_request

MAX_LINE_BYTES = 256 * 1024 * 1024
"""Ten images of 10 MB each in base64 fit; a file without line breaks is not read whole."""

_ERRORS_SHOWN = 10


class InputError(Exception):
    """An input that cannot be run. The message has a line for each mistake: file:line: what."""


def index(file: BinaryIO, name: str) -> dict[str, int]:
    """Checks all lines; gives the byte offset of each by its custom_id, in the file's order.
    Raises InputError, `name` standing for the file in its message.
    """
    offsets: dict[str, int] = {}
    mistakes: list[str] = []
    for number, offset, line in read_lines(file):
        try:
            request = parse_request(line)
            if request.custom_id in offsets:
                raise ValueError(f"`custom_id` '{request.custom_id[:100]}' stands on two lines")
            offsets[request.custom_id] = offset
        except ValueError as error:
            mistakes.append(f"{name}:{number}: {error}")
            if len(mistakes) == _ERRORS_SHOWN:
                mistakes.append("(the rest was not checked)")
                break
    if not mistakes and not offsets:
        mistakes.append(f"{name}: no requests in it")
    if mistakes:
        raise InputError("\n".join(mistakes))
    return offsets


def read_at(file: BinaryIO, offset: int, custom_id: str) -> Request:
    """The request that `index` found there. Raises InputError if another or none is there now."""
    file.seek(offset)
    with contextlib.suppress(ValueError):
        request = parse_request(file.readline(MAX_LINE_BYTES))
        if request.custom_id == custom_id:
            return request
    raise InputError("the input was changed while the batch ran: run it again")


def read_lines(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Number (from 1), byte offset and bytes of each line that is not blank. A line longer than
    MAX_LINE_BYTES comes in pieces, which are no JSON.
    """
    number = offset = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        if not line.isspace():
            yield number, offset, line
        offset += len(line)
