"""Checks weights that were copied into Hugging Face's cache, by what the files tell about
themselves: no network is needed."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

_MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors format."""


def damaged(snapshot: Path, ignore: Sequence[str]) -> list[str]:
    """The files of a snapshot that are absent, cut off or changed, but for those that match a
    pattern in `ignore`.

    A file in the cache is a link to one that is named by its checksum. One that was copied without
    its link is checked by its size if it has weights.
    """
    names = {str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if not path.is_dir()}
    for index in [name for name in names if name.endswith(".safetensors.index.json")]:
        names.update(_shards(snapshot / index))
    weights = "*.safetensors"
    if weights not in ignore and not any(fnmatch(name, weights) for name in names):
        names.add(weights)
    needed = [name for name in names if not any(fnmatch(name, pattern) for pattern in ignore)]
    return sorted(name for name in needed if not _is_whole(snapshot / name))


def _shards(index: Path) -> Iterator[str]:
    try:
        yield from json.loads(index.read_bytes())["weight_map"].values()
    except (OSError, ValueError, KeyError):
        yield index.name


def _is_whole(path: Path) -> bool:
    try:
        if path.is_symlink():
            return _checksum(path, path.resolve().name) == path.resolve().name
        return path.suffix != ".safetensors" or _size(path) == path.stat().st_size
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _checksum(path: Path, like: str) -> str:
    """The checksum of the same kind: SHA-256 of large files, and of others Git's."""
    with path.open("rb") as file:
        if len(like) == hashlib.sha256().digest_size * 2:
            return hashlib.file_digest(file, "sha256").hexdigest()
        content = file.read()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _size(path: Path) -> int:
    """The size in bytes that a safetensors file has by its header."""
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(header_bytes, _MAX_HEADER_BYTES)))
    ends = [each["data_offsets"][1] for name, each in header.items() if name != "__metadata__"]
    return 8 + header_bytes + int(max(ends))
