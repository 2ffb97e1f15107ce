"""Reads an adapter's files: the configuration and the header of the weights, not the weights."""

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any, Protocol

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"

_LARGEST_HEADER_BYTES = 100 * 1024**2
"""The bound of the safetensors library."""
_METADATA = "__metadata__"
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16}
"""The number formats that adapters are stored in, and their bits."""
_PIECE_BYTES = 1024**2
_DIGEST_LETTERS = 32


class AdapterError(Exception):
    """An adapter cannot be served. The message says why."""


@dataclass(frozen=True, slots=True)
class Tensor:
    shape: tuple[int, ...]
    bits: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class AdapterFiles:
    """What the files of an adapter say of it."""

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def loaded_bytes(self) -> int:
        """The main memory that it takes in each process of an engine, in bf16."""
        return 2 * sum(tensor.elements for tensor in self.tensors.values())


def read_files(folder: Path) -> AdapterFiles:
    """Reads an adapter's folder. Raises AdapterError if a file is missing or broken."""
    if not folder.is_dir():
        raise AdapterError(f"broken files: there is no folder {folder}")
    config = _read_config(folder / CONFIG_FILE)
    path = folder / WEIGHTS_FILE
    try:
        with path.open("rb") as file:
            header, begin = read_header(file)
            size = path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from None
    return AdapterFiles(config, _tensors(header, size - begin))


class Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


def read_header(file: Readable) -> tuple[dict[str, Any], int]:
    """Reads the header of a safetensors file: its length in eight bytes, then JSON. Returns it with
    the position at which the data begins. Raises AdapterError."""
    length_bytes = file.read(8)
    if len(length_bytes) < 8:
        raise _broken("it is empty or cut off")
    (length,) = struct.unpack("<Q", length_bytes)
    if length > _LARGEST_HEADER_BYTES:
        raise _broken("it is no safetensors file")
    text = file.read(length)
    if len(text) < length:
        raise _broken("it is cut off")
    try:
        header = json.loads(text)
    except ValueError:
        raise _broken("it is no safetensors file") from None
    if not isinstance(header, dict):
        raise _broken("it is no safetensors file")
    return header, 8 + length


class DigestReader(RawIOBase):
    """Reads a file of an adapter into a digest of all that the adapter's files contain."""

    def __init__(self, path: Path, digest: "hashlib._Hash") -> None:
        """Raises OSError."""
        self._file = path.open("rb")
        self._digest = digest
        digest.update(path.name.encode() + b"\0")

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._digest.update(piece)
        return piece

    def close(self) -> None:
        self._file.close()
        super().close()

    @staticmethod
    def text(digest: "hashlib._Hash") -> str:
        return digest.hexdigest()[:_DIGEST_LETTERS]


def digest_of(folder: Path) -> str:
    """Returns a digest of all that an adapter's files contain. Raises AdapterError."""
    digest = hashlib.sha256()
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        try:
            with DigestReader(folder / name, digest) as file:
                while file.read(_PIECE_BYTES):
                    pass
        except OSError as error:
            raise _unreadable(folder / name, error) from None
    return DigestReader.text(digest)


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise _unreadable(path, error) from None
    except ValueError:
        raise AdapterError(f"broken files: {CONFIG_FILE} is not JSON") from None
    if not isinstance(config, dict):
        raise AdapterError(f"broken files: {CONFIG_FILE} is no JSON object")
    return config


def _tensors(header: Mapping[str, Any], data_bytes: int) -> Mapping[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    end = 0
    try:
        for name, described in header.items():
            if name == _METADATA:
                continue
            bits = _BITS.get(described["dtype"])
            if bits is None:
                raise _broken(f"{name} is stored as {described['dtype']}")
            tensor = tensors[name] = Tensor(tuple(map(int, described["shape"])), bits)
            first, last = map(int, described["data_offsets"])
            if not 0 <= first <= last or (last - first) * 8 != tensor.elements * bits:
                raise _broken(f"{name} has not the bytes of its shape")
            end = max(end, last)
    except (KeyError, TypeError, ValueError):
        raise _broken("its header is not that of a safetensors file") from None
    if end != data_bytes:
        raise _broken(f"it has {data_bytes} bytes of data, and its header says {end}")
    return tensors


def _broken(why: str) -> AdapterError:
    return AdapterError(f"broken files: {WEIGHTS_FILE}: {why}; copy or export it again")


def _unreadable(path: Path, error: OSError) -> AdapterError:
    if isinstance(error, FileNotFoundError):
        return AdapterError(f"broken files: {path.name} is missing in {path.parent}")
    return AdapterError(f"broken files: {path} cannot be read: {error.strerror}")
