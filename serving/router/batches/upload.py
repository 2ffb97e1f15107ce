"""Receives an uploaded file: the body goes to the disk as it arrives, and is never in memory."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header

from serving.router.batches import errors

# What is wrong with a form is told to its client, who could fill the log with it.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)

_MOST_FIELD_BYTES = 4096
_MOST_PARTS = 20


class Upload:
    """A form with one file. `fields` has the texts of its other fields."""

    def __init__(self, content_type: str | None, path: Path, limit_bytes: int) -> None:
        """Raises ApiError unless `content_type` is that of such a form."""
        kind, parameters = parse_options_header(content_type)
        boundary = parameters.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise errors.not_a_form("its content-type is another")
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.bytes = 0
        self._path = path
        self._limit_bytes = limit_bytes
        self._file: BinaryIO | None = None
        self._header = b""
        self._headers: dict[bytes, bytes] = {}
        self._value = b""
        self._name: str | None = None
        self._parts = 0
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_continues,
                "on_header_value": self._value_continues,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_part_end": self._part_ends,
                "on_end": self._form_ends,
            },
        )

    async def receive(self, pieces: AsyncIterator[bytes]) -> None:
        """Reads the form to its end, and its file to `path`. Raises ApiError, also as soon as the
        file exceeds the limit, and OSError."""
        with self._path.open("wb") as file:
            self._file = file
            async for piece in pieces:
                if piece:
                    await asyncio.to_thread(self._write, piece)
            await asyncio.to_thread(file.flush)
        if not self._ended:
            raise errors.not_a_form("it ends before the form does")

    def _write(self, piece: bytes) -> None:
        try:
            self._parser.write(piece)
        except MultipartParseError as error:
            raise errors.not_a_form(str(error)[:200]) from None

    def _part_begins(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise errors.not_a_form("it has too many fields")
        self._headers, self._name = {}, None

    def _header_continues(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _value_continues(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _headers_end(self) -> None:
        _, parameters = parse_options_header(self._headers.get(b"content-disposition"))
        name = parameters.get(b"name", b"").decode(errors="replace")
        if name == "file":
            if self.filename is not None:
                raise errors.not_a_form("it has two files")
            self.filename = parameters.get(b"filename", b"").decode(errors="replace")
        else:
            self._name = name

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._name is None:
            assert self._file is not None
            self.bytes += end - start
            if self.bytes > self._limit_bytes:
                raise errors.file_too_large(self._limit_bytes)
            self._file.write(memoryview(data)[start:end])
        else:
            self._value += data[start:end]
            if len(self._value) > _MOST_FIELD_BYTES:
                raise errors.not_a_form(f"{self._name[:100]} is too long")

    def _part_ends(self) -> None:
        if self._name is not None:
            self.fields[self._name] = self._value.decode(errors="replace")
            self._value = b""

    def _form_ends(self) -> None:
        self._ended = True
