"""Finds the response object in the last event of a stream."""

from collections.abc import Sequence

_MARKS = (b"event: response.completed\ndata: ", b"event: response.incomplete\ndata: ")
"""Generated text cannot contain these, as its line breaks are escaped."""
_OVERLAP_BYTES = max(map(len, _MARKS)) - 1


class FinalEvent:
    """Keeps the last event of a stream, and of all before it only some bytes."""

    __slots__ = ("_end", "_found")

    def __init__(self) -> None:
        self._end = b""
        self._found: list[bytes] = []

    def feed(self, pieces: Sequence[bytes]) -> None:
        """Takes bytes of the stream, best many at a time."""
        if self._found:
            self._found += pieces
            return
        data = b"".join((self._end, *pieces))
        for mark in _MARKS:
            if (at := data.find(mark)) >= 0:
                self._found.append(data[at + len(mark) :])
                return
        self._end = data[-_OVERLAP_BYTES:]

    def data(self) -> bytes | None:
        """Returns the data of the event that has the whole response; None if none came."""
        event, end, _ = b"".join(self._found).partition(b"\n\n")
        return event if end else None
