"""The frames between routers: a length of four bytes, then MessagePack."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import msgspec

from serving.dispatch import LimitMessage, Message
from serving.poison import PoisonMessage

T = TypeVar("T")

_LENGTH_BYTES = 4
_MOST_BYTES = 64 * 1024 * 1024


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """The first frame, sent by the router that connects to subscribe."""

    token: str
    """The cluster's shared secret."""
    is_new: bool = False
    """Whether the router is new and asks for what the replicas have cached too."""


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """Every later frame, sent by the publishing router."""

    model_id: str
    """The model that `messages` are about; empty in a frame about the tenants' limits."""
    messages: list[Message | PoisonMessage]
    limits: list[LimitMessage] = []


class ProtocolError(Exception):
    """The received bytes are not a valid frame."""


_encode = msgspec.msgpack.Encoder().encode
_decode_hello = msgspec.msgpack.Decoder(Hello).decode
_decode_batch = msgspec.msgpack.Decoder(Batch).decode


def frame(message: Hello | Batch) -> bytes:
    data = _encode(message)
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


async def read_hello(reader: asyncio.StreamReader) -> Hello:
    """Reads the first frame. Raises ProtocolError, EOFError, OSError."""
    return await _read(reader, _decode_hello, 1024)


async def read_batch(reader: asyncio.StreamReader) -> Batch:
    """Reads the next batch. Raises ProtocolError, EOFError, OSError."""
    return await _read(reader, _decode_batch, _MOST_BYTES)


async def _read(reader: asyncio.StreamReader, decode: Callable[[bytes], T], most_bytes: int) -> T:
    size = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    if size > most_bytes:
        raise ProtocolError(f"a frame of {size} bytes")
    try:
        return decode(await reader.readexactly(size))
    except msgspec.MsgspecError as error:
        raise ProtocolError(str(error)) from None
